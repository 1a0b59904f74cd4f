"""From atomic numbers to rows of the atom embedding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from equiformer_jax.models.config import EquiformerConfig
from equiformer_jax.structure import LARGEST_ATOMIC_NUMBER


def element_table(config: EquiformerConfig) -> np.ndarray:
    """The row of every atomic number `[119]`, -1 for elements that the model does not know.

    Atomic number 0 is padding; it gets row 0 so that its numbers stay finite.
    """
    table = np.full(LARGEST_ATOMIC_NUMBER + 1, -1, np.int32)
    if config.atomic_number_map is None:
        known = min(config.max_atom_type, LARGEST_ATOMIC_NUMBER + 1)
        table[:known] = np.arange(known)
    else:
        table[list(config.atomic_number_map)] = np.arange(len(config.atomic_number_map))
        table[0] = 0
    return table


def rows_of_elements(atomic_numbers: jax.Array, config: EquiformerConfig) -> jax.Array:
    """Rows `[N]` for atomic numbers `[N]`."""
    return jnp.asarray(element_table(config))[atomic_numbers]
