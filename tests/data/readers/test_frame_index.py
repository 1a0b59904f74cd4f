from __future__ import annotations

import numpy as np
import pytest
from ase.io.formats import string2index

from equiformer_jax.data.readers.frame_index import select_frames


@pytest.mark.parametrize("index", [":", "3", "-1", "-3", "2:", ":-2", "::3", "8:2:-2", "::-1"])
def test_frames_are_those_that_ase_selects(index):
    expected = np.atleast_1d(np.arange(10)[string2index(index)])
    np.testing.assert_array_equal(select_frames(index, 10), expected)


def test_python_indices_are_taken():
    assert select_frames(-1, 10).tolist() == [9]
    assert select_frames(slice(2, 4), 10).tolist() == [2, 3]


@pytest.mark.parametrize("index", ["10", "-11", "5:5", "20:"])
def test_no_frames_are_refused(index):
    with pytest.raises(ValueError, match=r"index: '.*' selects none of 10 frames"):
        select_frames(index, 10)


@pytest.mark.parametrize("index", ["", "last", "1:2:3:4", "1.5", "1,2"])
def test_a_malformed_index_is_refused(index):
    with pytest.raises(ValueError, match="index: expected a number or 'start:stop:step', got"):
        select_frames(index, 10)


def test_a_step_of_zero_is_refused():
    with pytest.raises(ValueError, match="step"):
        select_frames("::0", 10)
