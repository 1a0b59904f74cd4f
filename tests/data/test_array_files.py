from __future__ import annotations

import numpy as np
import pytest

from equiformer_jax.data import array_files
from equiformer_jax.data.array_files import open_arrays, write_arrays
from equiformer_jax.data.errors import DataError


def test_pieces_are_joined(tmp_path):
    pieces = [np.arange(6).reshape(3, 2), np.zeros((0, 2), int), np.arange(4).reshape(2, 2)]
    write_arrays(tmp_path, [{"a": piece, "b": piece[:, 0] > 1} for piece in pieces], "key")
    arrays = open_arrays(tmp_path, "key", verify=True)
    np.testing.assert_array_equal(arrays["a"], np.concatenate(pieces))
    np.testing.assert_array_equal(arrays["b"], np.concatenate(pieces)[:, 0] > 1)
    assert arrays["b"].dtype == bool


def test_types_widen_as_often_as_they_must(tmp_path, monkeypatch):
    monkeypatch.setattr(array_files, "_BLOCK_BYTES", 3)  # what is there is copied in blocks
    pieces = [np.arange(5, dtype=kind) for kind in (np.int8, np.int16, np.int8, np.int32)]
    write_arrays(tmp_path, [{"a": piece} for piece in pieces], "key")
    array = open_arrays(tmp_path, "key")["a"]
    assert array.dtype == np.int32
    np.testing.assert_array_equal(array, np.tile(np.arange(5), 4))
    assert {path.name for path in tmp_path.iterdir()} == {"a.npy", "manifest.json"}


def test_what_was_written_under_another_key_is_refused(tmp_path):
    write_arrays(tmp_path, [{"a": np.zeros(3)}], "key")
    with pytest.raises(DataError, match="manifest.json: 'key': expected 'other'"):
        open_arrays(tmp_path, "other")


def test_an_array_of_another_shape_is_refused(tmp_path):
    write_arrays(tmp_path, [{"a": np.zeros((2, 3))}], "key")
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"a.npy: holds \[\[3, 2\], '<f8'\]; expected the shape"):
        open_arrays(tmp_path, "key")


def test_a_manifest_of_another_kind_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text("[1]")
    with pytest.raises(DataError, match="manifest.json: 'arrays': expected a mapping"):
        open_arrays(tmp_path, "key")


def test_a_source_that_cannot_be_read_is_not_blamed_on_the_folder(tmp_path):
    def pieces():
        yield {"a": np.arange(3)}
        raise FileNotFoundError("the structures are gone")

    with pytest.raises(FileNotFoundError, match="the structures are gone"):
        write_arrays(tmp_path, pieces(), "key")
