"""Files of every kind are recognized by how they begin."""

from __future__ import annotations

import pickle
import sqlite3
import tarfile
import zipfile

import lmdb
import numpy as np
import pytest

from equiformer_jax.data.readers.file_format import HEAD_SIZE, describe_format


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"21\nEnergy=1.0\n", "a text file that begins with '21'"),
        ("Å".encode() * 300, "a text file"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\x89HDF\r\n\x1a\n" + bytes(9), "an HDF5 file"),
        (b"BZh91AY", "a bzip2 archive"),
        (b"\x1f\x8b" + bytes(600), "a gzip archive"),
        (b"\xfd7zXZ\x00" + bytes(600), "an xz archive"),
        (bytes(9000), "a file of zeros"),
        (pickle.dumps([1], 4), "a Python pickle"),
        (
            b"\x01\x02\x03\xff",
            "a file of an unknown format that begins with the bytes b'\\x01\\x02",
        ),
        (bytes(12), "a file of an unknown format"),
    ],
)
def test_how_files_begin(content, found):
    assert describe_format(content[:HEAD_SIZE]).startswith(found)


def write_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"b")


def write_tar(path):
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "a")


def write_array(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))


def write_sqlite(path):
    with sqlite3.connect(path) as database:
        database.execute("create table a (b)")


@pytest.mark.parametrize(
    ("write", "found"),
    [
        (write_zip, "a zip archive"),
        (lambda path: zipfile.ZipFile(path, "w").close(), "an empty zip archive"),
        (write_tar, "a tar archive"),
        (write_array, "a single NumPy array (.npy)"),
        (write_sqlite, "an SQLite database"),
        (lambda path: lmdb.open(str(path), subdir=False).close(), "an LMDB database"),
    ],
)
def test_files_that_libraries_write(tmp_path, write, found):
    write(tmp_path / "file")
    assert describe_format((tmp_path / "file").read_bytes()[:HEAD_SIZE]) == found


def test_a_character_cut_at_the_end_is_still_text():
    assert describe_format("aÅ".encode()[:2]).startswith("a text file")
