"""Factors that turn the units of public data sets into the package's own, eV and Å.

Written out as numbers, so that a library with newer constants does not shift anybody's energies.
"""

from __future__ import annotations

# eV per kcal/mol with the constants of CODATA 2014, as ASE's `units.kcal / units.mol`. The force
# errors that papers list in meV/Å for MD17 are those of the files (kcal/mol/Å) times 43.364.
EV_PER_KCAL_MOL = 0.04336410390059322

# The two factors with which QM9's targets are published and compared (SPEC.md §12.2): the hartree
# is that of CODATA 2018, and the kcal/mol is rounded. They are kept apart from the factor above, so
# that targets and errors are exactly those of the published recipe.
QM9_EV_PER_HARTREE = 27.211386246
QM9_EV_PER_KCAL_MOL = 0.04336414
