"""Aspirin: its start geometry, its bonds, and its energy and forces with GFN2-xTB.

`tblite` is imported only when something is calculated: nothing else in this project needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms, neighborlist
from ase.optimize import BFGS

if TYPE_CHECKING:
    from tblite.ase import TBLite

METHOD = "GFN2-xTB"

# A rough three-dimensional drawing of CC(=O)Oc1ccccc1C(=O)O in Å, to be relaxed.
ROUGH_GEOMETRY = """
C  3.40  0.55  0.06
C  2.04  0.14  0.53
O  1.69  0.14  1.70
O  1.29 -0.27 -0.56
C -0.03 -0.58 -0.22
C -0.33 -1.94 -0.07
C -1.63 -2.33  0.25
C -2.63 -1.37  0.40
C -2.33 -0.01  0.23
C -1.02  0.40 -0.09
C -0.70  1.83 -0.30
O  0.36  2.31 -0.66
O -1.76  2.64 -0.06
H  3.92 -0.31 -0.37
H  3.98  0.93  0.90
H  3.31  1.36 -0.68
H  0.45 -2.69 -0.19
H -1.87 -3.38  0.38
H -3.64 -1.67  0.65
H -3.12  0.72  0.34
H -1.40  3.54 -0.22
"""

# Pairs of rows of ROUGH_GEOMETRY: the bonds of aspirin, these and no others in every saved frame.
BONDS = frozenset(
    {(0, 1), (1, 2), (1, 3), (3, 4), (0, 13), (0, 14), (0, 15)}  # acetyl ester
    | {(4, 5), (5, 6), (6, 7), (7, 8), (8, 9), (4, 9)}  # ring
    | {(5, 16), (6, 17), (7, 18), (8, 19)}  # hydrogens of the ring
    | {(9, 10), (10, 11), (10, 12), (12, 20)}  # carboxyl
)

# The bond that links the ester to the ring: turning about it is the slowest motion of all.
RING_TO_ESTER_DIHEDRAL = (9, 4, 3, 1)

# Two atoms are bonded when closer than this many times the sum of their covalent radii. A C-H bond
# may stretch to 1.39 Å then, seven standard deviations at 500 K, while the hydroxyl hydrogen is not
# taken to be bonded to the carbonyl oxygen that it points to.
BOND_TOLERANCE = 1.3


def gfn2_calculator(accuracy: float = 1.0) -> TBLite:
    """A fresh GFN2-xTB calculator for ASE; `accuracy` scales tblite's convergence thresholds."""
    from tblite.ase import TBLite

    return TBLite(method=METHOD, accuracy=accuracy, verbosity=0)


def label(atomic_numbers: np.ndarray, positions: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy in eV and forces [N, 3] in eV/Å, of positions [N, 3] in Å.

    Each call is a calculation of its own, so that a label does not depend on the frames before it,
    and converges a hundred times tighter than tblite's default (forces to about 2e-6 eV/Å).
    """
    atoms = Atoms(numbers=atomic_numbers, positions=positions)
    atoms.calc = gfn2_calculator(accuracy=0.01)
    return float(atoms.get_potential_energy()), np.asarray(atoms.get_forces())


def bonded_pairs(atomic_numbers: np.ndarray, positions: np.ndarray) -> frozenset[tuple[int, int]]:
    """The pairs (i, j), i < j, within `BOND_TOLERANCE` times the sum of their covalent radii."""
    atoms = Atoms(numbers=atomic_numbers, positions=positions)
    cutoffs = neighborlist.natural_cutoffs(atoms, mult=BOND_TOLERANCE)
    firsts, seconds = neighborlist.neighbor_list("ij", atoms, cutoffs)
    return frozenset((int(i), int(j)) for i, j in zip(firsts, seconds, strict=True) if i < j)


def check_molecule(atomic_numbers: np.ndarray, positions: np.ndarray, where: str) -> None:
    """Refuses positions that are not finite or whose bonds are not those of aspirin.

    Args:
        atomic_numbers: [21].
        positions: [21, 3], Å, atoms in the order of `ROUGH_GEOMETRY`.
        where: what the message of the error begins with.

    Raises:
        RuntimeError: with the bonds lost and formed.
    """
    if not np.all(np.isfinite(positions)):
        raise RuntimeError(f"{where}: the positions are not finite")
    bonds = bonded_pairs(atomic_numbers, positions)
    if bonds != BONDS:
        raise RuntimeError(
            f"{where}: the molecule is no longer aspirin: "
            f"bonds lost {sorted(BONDS - bonds)}, bonds formed {sorted(bonds - BONDS)}"
        )


def relaxed_aspirin() -> Atoms:
    """The rough geometry relaxed with GFN2-xTB, until no force exceeds 0.005 eV/Å.

    Raises:
        RuntimeError: it did not relax in 500 steps, or not to aspirin.
    """
    rows = [line.split() for line in ROUGH_GEOMETRY.strip().splitlines()]
    atoms = Atoms([row[0] for row in rows], [[float(x) for x in row[1:]] for row in rows])
    atoms.calc = gfn2_calculator()
    if not BFGS(atoms, logfile=None).run(fmax=0.005, steps=500):
        raise RuntimeError("the start geometry did not relax in 500 steps")
    check_molecule(atoms.numbers, atoms.positions, "the relaxed start geometry")
    return atoms
