from __future__ import annotations

import jax
import numpy as np
import pytest

from equiformer_jax.nn.normalization import EquivariantNorm
from tests.ops.symmetry import random_features


def test_an_unknown_kind_is_named_with_those_that_exist():
    features = random_features("2x0e", 3)
    with pytest.raises(ValueError, match=r"norm_layer is 'batch'; expected one of .*'instance'"):
        EquivariantNorm("2x0e", "batch").init(jax.random.key(0), features, np.zeros(3, int), 1)
