"""QM9 with one of its targets as the label."""

from __future__ import annotations

from equiformer_jax.data.datasets.places import existing, locate, take
from equiformer_jax.data.readers.qm9 import UNCHARACTERIZED_NAME, read_qm9
from equiformer_jax.data.readers.qm9_npz import read_qm9_npz
from equiformer_jax.data.splits import QM9_MOLECULES, qm9_split
from equiformer_jax.data.structures import StructureSequence


def load_qm9(
    target: str,
    file: str | None = None,
    directory: str | None = None,
    download: bool = True,
    scaled_split: bool = False,
) -> dict[str, StructureSequence]:
    """110,000 molecules to train on, 10,000 to validate, 10,831 to test on (SPEC §12.2).

    The label, `Structure.energy`, is the target in the unit of `readers.qm9_targets.TARGETS`.

    Args:
      target: name of the target.
      file: a file or folder that `read_qm9` takes, with `uncharacterized.txt` beside it, or a
        compact `.npz`.
      directory: folder of all data sets.
      download: fetch what is not there.
      scaled_split: split another number of molecules than the full set has, in the same
        proportions.

    Raises:
      ValueError: the target is unknown, or the number of molecules is not that of the full set.
    """
    if file:
        path = existing(file, "file")
        compact = path.suffix == ".npz"
        molecules = read_qm9_npz(path, target) if compact else read_qm9(path, target=target)
    else:
        left_out = locate("qm9/uncharacterized", directory, download)
        molecules = read_qm9(locate("qm9/sdf", directory, download), left_out, target)
    if len(molecules) != QM9_MOLECULES and not scaled_split:
        raise ValueError(
            f"{file or 'QM9'} has {len(molecules):,} characterized molecules, the published split "
            f"is one of {QM9_MOLECULES:,} ({UNCHARACTERIZED_NAME} must be beside the file); for a "
            "part of QM9 set data.options.scaled_split=True"
        )
    return take(molecules, qm9_split(len(molecules), scaled=scaled_split))
