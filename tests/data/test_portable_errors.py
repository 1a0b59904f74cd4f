from __future__ import annotations

import pickle

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.portable_errors import portable


def test_errors_that_survive_go_as_they_are():
    error = KeyError("name")
    assert portable(error) is error


def test_others_go_as_the_nearest_built_in_error_with_their_message():
    class AwkwardError(OSError):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    for error, kind in (
        (DataError("a.npz", "bad", record=3), ValueError),
        (AwkwardError(1, 2), OSError),
    ):
        arrived = pickle.loads(pickle.dumps(portable(error)))
        assert isinstance(arrived, kind)
        assert str(arrived) == str(error)
