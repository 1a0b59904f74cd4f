"""Typical sizes of the structures of the public data sets, so that none of them has to be read.

Edges are counted within 5 Å, the cutoff of all published models.
"""

from __future__ import annotations

from typing import NamedTuple

from ml_collections import config_dict


class StructureSize(NamedTuple):
    """How large a structure is.

    Attributes:
      atoms: of one structure.
      edges: neighbors of all its atoms within 5 Å.
      source: where the numbers come from.
    """

    atoms: int
    edges: int
    source: str


_PAIRS = "every pair of atoms, the most there can be"
_AS_ALANINE = "26 neighbors an atom, as in real frames of Ac-Ala3-NHMe"
MOLECULES = {
    "aspirin": StructureSize(21, 304, "mean of the embedded frames"),
    "azobenzene": StructureSize(24, 408, "17 neighbors an atom"),
    "benzene": StructureSize(12, 132, _PAIRS),
    "ethanol": StructureSize(9, 72, _PAIRS),
    "malonaldehyde": StructureSize(9, 72, _PAIRS),
    "naphthalene": StructureSize(18, 306, _PAIRS),
    "paracetamol": StructureSize(20, 340, "17 neighbors an atom"),
    "salicylic_acid": StructureSize(16, 240, _PAIRS),
    "toluene": StructureSize(15, 210, _PAIRS),
    "uracil": StructureSize(12, 132, _PAIRS),
}
SYSTEMS = {
    "Ac-Ala3-NHMe": StructureSize(42, 1_083, "mean of five real frames"),
    "DHA": StructureSize(56, 1_445, _AS_ALANINE),
    "stachyose": StructureSize(87, 2_245, _AS_ALANINE),
    "AT-AT": StructureSize(60, 1_548, _AS_ALANINE),
    "AT-AT-CG-CG": StructureSize(118, 3_044, _AS_ALANINE),
    "buckyball-catcher": StructureSize(148, 4_292, "29 neighbors an atom, as in C60"),
    "double-walled_nanotube": StructureSize(370, 15_870, "built geometry, 43 neighbors an atom"),
}
_SLAB = StructureSize(80, 2_709, "built slab of platinum, 34 neighbors an atom")
DATASETS = {
    "embedded_aspirin": MOLECULES["aspirin"],
    "qm9": StructureSize(18, 300, "mean of the data set"),
    "oc20_is2re": _SLAB,
    "oc20_s2ef": _SLAB,
}
_BY_OPTION = {
    "md17": ("molecule", MOLECULES),
    "rmd17": ("molecule", MOLECULES),
    "md22": ("system", SYSTEMS),
}


def typical_size(
    data: config_dict.ConfigDict, atoms: int | None = None, edges: int | None = None
) -> StructureSize:
    """Atoms and edges of a typical structure of a configuration's data.

    Args:
      data: `config.data`.
      atoms: takes the place of the table's number.
      edges: likewise.

    Raises:
      ValueError: nothing is known of the data, and not both numbers are given; or one is below 1.
    """
    for name, value in (("atoms", atoms), ("edges", edges)):
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}; expected at least 1")
    if atoms is not None and edges is not None:
        return StructureSize(atoms, edges, "given")
    option, table = _BY_OPTION.get(data.name, (None, DATASETS))
    key = data.name if option is None else data.options[option]
    if key not in table:
        raise ValueError(
            f"the size of the structures of {key!r} is not known: give atoms and edges"
        )
    known = table[key]
    if atoms is None and edges is None:
        return known
    return StructureSize(atoms or known.atoms, edges or known.edges, f"given; else {known.source}")
