from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.npz_file import read_npz, read_npz_content


def save(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(0)
    return save(tmp_path / "a.npz", R=rng.normal(size=(50, 4, 3)), E=np.arange(50.0), name="x")


def fails(path, message, keys=("R",)):
    with pytest.raises(DataError, match=message) as caught:
        read_npz(path, keys)
    assert str(caught.value).startswith(f"{path}: ")


def test_only_the_named_arrays_are_read(path):
    arrays = read_npz(path, ["E"])
    assert list(arrays) == ["E"]
    np.testing.assert_array_equal(arrays["E"], np.arange(50.0))


def test_bytes_are_read_as_files_are(path):
    content = io.BytesIO(path.read_bytes())
    np.testing.assert_array_equal(
        read_npz_content(content, ["R"], "here")["R"], read_npz(path, ["R"])["R"]
    )
    with pytest.raises(DataError, match=r"here: lacks the arrays \['Z'\]"):
        read_npz_content(io.BytesIO(path.read_bytes()), ["Z"], "here")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
        read_npz(tmp_path / "absent.npz", ["R"])


def test_a_folder_is_named(tmp_path):
    fails(tmp_path, "a folder; expected an .npz file")


def test_missing_and_present_keys_are_listed(path):
    fails(path, r"lacks the arrays \['F', 'z'\]; it has \['R', 'E', 'name'\]", ["R", "F", "z"])


def test_an_object_array_is_not_unpickled(tmp_path):
    path = save(tmp_path / "o.npz", R=np.array([{}, None], object))
    fails(path, "'R': cannot be read: an array of Python objects")


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.99])
def test_a_file_cut_off_is_said_to_be(path, fraction):
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    fails(path, r"this is a zip archive that is damaged or cut off after \d+ bytes")


def test_a_damaged_array_is_named(path):
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("R.npy")
    content = bytearray(path.read_bytes())
    middle = member.header_offset + member.compress_size // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    fails(path, "'R': cannot be read: ")
    assert len(read_npz(path, ["E"])["E"]) == 50


def test_a_damaged_header_is_named(tmp_path):
    path = tmp_path / "h.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("R.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f8',")
        archive.writestr("E.npy", b"no array")
    fails(path, "'R': cannot be read: ")
    fails(path, "'E': not a NumPy array", ["E"])


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"21\nEnergy=1.0\n", "a text file that begins with '21'"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"\x01\x02\x03\xff", "an unknown format"),
    ],
)
def test_files_of_other_formats_are_recognized(tmp_path, content, found):
    path = tmp_path / "b.npz"
    path.write_bytes(content)
    fails(path, f"expected an .npz file, but this is .*{found}")


def test_a_single_array_is_recognized(tmp_path):
    with open(tmp_path / "c.npz", "wb") as file:
        np.save(file, np.zeros(3))
    fails(tmp_path / "c.npz", "this is a single NumPy array")
