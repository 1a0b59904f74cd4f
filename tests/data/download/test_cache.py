from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
import zipfile

import pytest

from equiformer_jax.data.download.cache import (
    data_folder,
    is_verified,
    marker_of,
    verify,
    write_marker,
)
from equiformer_jax.data.download.sources import RemoteFile

CONTENT = b"some numbers"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


def source(name="data.bin", **known):
    return RemoteFile(("http://localhost/x",), name, **known)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(CONTENT)
    return path


def test_the_folder_is_the_argument_else_the_variable_else_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUIFORMER_DATA", str(tmp_path / "variable"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert data_folder(tmp_path / "argument") == tmp_path / "argument"
    assert data_folder() == tmp_path / "variable"
    monkeypatch.delenv("EQUIFORMER_DATA")
    assert data_folder() == tmp_path / "home" / ".cache" / "equiformer_jax"
    monkeypatch.setenv("EQUIFORMER_DATA", "~/data")
    assert data_folder() == tmp_path / "home" / "data"


@pytest.mark.parametrize(
    "known",
    [
        {},
        {"size": 12},
        {"sha256": SHA256},
        {"sha256": SHA256[:12].upper()},
        {"md5": MD5},
        {"size": 12, "sha256": SHA256, "md5": MD5},
    ],
)
def test_the_right_file_is_verified(file, known):
    assert verify(file, source(**known)) == SHA256


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"size": 13}, "expected 13 bytes, got 12"),
        ({"sha256": "0" * 64}, f"expected sha256 {'0' * 64}, got {SHA256}"),
        ({"md5": "0" * 32}, f"expected md5 {'0' * 32}, got {MD5}"),
    ],
)
def test_another_file_is_refused(file, known, message):
    with pytest.raises(ValueError, match=message):
        verify(file, source(**known))


def contents():
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a", CONTENT)
    with tarfile.open(fileobj=tarred, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return {
        "x.npz": zipped.getvalue(),
        "x.zip": zipped.getvalue(),
        "x.tar": tarred.getvalue(),
        "x.tar.xz": lzma.compress(CONTENT),
        "x.tar.gz": b"\x1f\x8b\x08...",
        "x.tar.bz2": b"BZh9...",
    }


@pytest.mark.parametrize("name", sorted(contents()))
def test_an_error_page_under_the_name_of_an_archive_is_noticed(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(contents()[name])
    verify(path, source(name))
    path.write_bytes(b"<!DOCTYPE html>" + b" " * 600)
    with pytest.raises(ValueError, match=r"not a whole \.\w+ file; it begins with b'<!DOCTYPE"):
        verify(path, source(name))


def test_a_zip_archive_without_its_end_is_noticed(tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(contents()["x.npz"][:-30])
    with pytest.raises(ValueError, match=r"not a whole \.npz file"):
        verify(path, source("x.npz"))


def test_a_marked_file_need_not_be_read_again(file):
    assert not is_verified(file, source())
    write_marker(file, SHA256, "http://localhost/x")
    assert is_verified(file, source(size=12, sha256=SHA256))
    assert {path.name for path in file.parent.iterdir()} == {file.name, marker_of(file).name}


def test_a_changed_file_must_be_read_again(file):
    write_marker(file, SHA256, None)
    file.write_bytes(CONTENT + b"!")
    assert not is_verified(file, source())


@pytest.mark.parametrize("known", [{"size": 13}, {"sha256": "0" * 64}])
def test_a_marker_of_another_file_does_not_count(file, known):
    write_marker(file, SHA256, None)
    assert not is_verified(file, source(**known))


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_a_damaged_marker_does_not_count(file, text):
    marker_of(file).write_text(text)
    assert not is_verified(file, source())


def test_no_file_is_not_verified(tmp_path):
    assert not is_verified(tmp_path / "none", source())
