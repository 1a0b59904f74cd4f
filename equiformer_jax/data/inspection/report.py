"""A data set in words and numbers, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols

from equiformer_jax.data.inspection.facts import SplitFacts, StructureFacts
from equiformer_jax.structure import Structure

_SHOWN_STRUCTURES = 3
_SHOWN_ATOMS = 5


def describe_split(facts: SplitFacts, energy_label: str = "energy (eV)") -> str:
    """Several lines about one split: sizes, elements, neighborhoods and labels.

    Args:
      facts: those of the split.
      energy_label: what the label is, with its unit.
    """
    looked_at = "" if len(facts) == facts.size else f" ({len(facts):,} of them looked at)"
    lines = [f"{facts.split}: {facts.size:,} structures{looked_at}"]
    if not len(facts):
        return lines[0]
    atoms, edges = facts.column("num_atoms"), facts.column("num_edges")
    lines += [
        f"  elements         {_elements(facts.composition)}",
        f"  atoms            {_range(atoms)}",
        f"  neighbors        {edges.sum() / atoms.sum():.2f} an atom; edges {_range(edges)}",
        f"  closest atoms    {facts.column('shortest_distance').min():.3f} Å",
    ]
    lines += [
        _label_line(energy_label, facts.column("energy")),
        _label_line("force rms (eV/Å)", facts.column("force_rms")),
        _label_line("net force (eV/Å)", facts.column("net_force")),
    ]
    return "\n".join(lines)


def describe_structure(
    structure: Structure, facts: StructureFacts, energy_label: str = "energy (eV)"
) -> str:
    """One structure: its formula, lattice, labels and first atoms.

    Args:
      structure: the structure.
      facts: its facts.
      energy_label: what the label is, with its unit.
    """
    parts = [f"{facts.name}: {_formula(facts.composition)}", f"{facts.num_edges} edges"]
    if structure.is_periodic and structure.cell is not None:
        lengths = np.linalg.norm(structure.cell, axis=1)
        parts.append("cell " + " x ".join(f"{length:.2f}" for length in lengths) + " Å")
    if structure.energy is not None:
        parts.append(f"{energy_label} {structure.energy:.6f}")
    lines = [", ".join(parts)]
    for atom in range(min(structure.num_atoms, _SHOWN_ATOMS)):
        position = " ".join(f"{x:10.5f}" for x in structure.positions[atom])
        line = f"    {chemical_symbols[structure.atomic_numbers[atom]]:2s} {position}"
        if structure.forces is not None:
            line += "   force " + " ".join(f"{x:9.4f}" for x in structure.forces[atom])
        lines.append(line)
    if structure.num_atoms > _SHOWN_ATOMS:
        lines.append(f"    ... and {structure.num_atoms - _SHOWN_ATOMS} more atoms")
    return "\n".join(lines)


def shown_structures(size: int) -> Sequence[int]:
    """Which structures of a split to show: some, evenly spread."""
    count = min(size, _SHOWN_STRUCTURES)
    return np.unique(np.linspace(0, size - 1, count).astype(int)).tolist() if count else []


def _range(values: np.ndarray) -> str:
    return f"{values.min():,} to {values.max():,}, mean {values.mean():,.1f}"


def _label_line(title: str, values: np.ndarray) -> str:
    values = values[~np.isnan(values)]
    if not len(values):
        return f"  {title:16s} none"
    return (
        f"  {title:16s} mean {values.mean():.6g}, deviation {values.std():.4g}, "
        f"from {values.min():.6g} to {values.max():.6g}"
    )


def _elements(composition: np.ndarray) -> str:
    total = composition.sum()
    present = sorted(np.flatnonzero(composition), key=lambda number: -composition[number])
    return ", ".join(f"{chemical_symbols[z]} {composition[z] / total:.1%}" for z in present)


def _formula(composition: np.ndarray) -> str:
    return "".join(
        chemical_symbols[z] + (str(composition[z]) if composition[z] > 1 else "")
        for z in np.flatnonzero(composition)
    )
