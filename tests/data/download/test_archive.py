from __future__ import annotations

import io
import tarfile
import zipfile

import pytest

from equiformer_jax.data.download.archive import unpack
from equiformer_jax.data.errors import DataError

FILES = {"a.txt": b"one" * 5000, "deep/b.txt": b"two"}


def write_tar(path, files=None, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in (files or FILES).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_zip(path, files=None):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (files or FILES).items():
            archive.writestr(name, content)


def write_archive(path):
    ending = path.suffix.removeprefix(".")
    if ending == "zip":
        write_zip(path)
    else:
        write_tar(path, mode="w" if ending == "tar" else f"w:{ending}")


def quiet(line):
    pass


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tar.bz2", "x.tar.xz", "x.zip"])
def test_archives_are_unpacked_once(tmp_path, name):
    archive = tmp_path / name
    write_archive(archive)
    folder = unpack(archive, tmp_path / "sub" / "x", quiet)
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["x"]
    archive.unlink()
    assert unpack(archive, folder, quiet) == folder


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tar.bz2", "x.tar.xz", "x.zip"])
@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_a_cut_off_archive_is_an_error_and_leaves_nothing(tmp_path, name, fraction):
    archive = tmp_path / name
    write_archive(archive)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(DataError, match=f"{name}: "):
        unpack(archive, tmp_path / "x", quiet)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("write", [write_tar, write_zip])
@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil"])
def test_names_that_lead_out_are_refused(tmp_path, write, name):
    archive = tmp_path / "x.archive"
    write(archive, {"fine": b"1", name: b"2"})
    if write is write_tar and name == "/evil":
        # Taken as a name below the folder, as tar itself does.
        folder = unpack(archive, tmp_path / "x", quiet)
        assert (folder / "evil").read_bytes() == b"2"
        return
    with pytest.raises(DataError, match=r"x\.archive: .*leads out of the folder"):
        unpack(archive, tmp_path / "x", quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["x.archive"]


def test_links_that_lead_out_are_refused(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = tarfile.SYMTYPE, "../../etc"
        archive.addfile(member)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        member = zipfile.ZipInfo("link")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "../../etc")
    for name in ("x.tar", "x.zip"):
        with pytest.raises(DataError, match="leads out of the folder"):
            unpack(tmp_path / name, tmp_path / "x", quiet)


def test_what_a_killed_process_left_is_removed(tmp_path):
    write_tar(tmp_path / "x.tar")
    left = tmp_path / "x.unpacking"
    left.mkdir()
    (left / "half").write_text("")
    folder = unpack(tmp_path / "x.tar", tmp_path / "x", quiet)
    assert not left.exists()
    assert not (folder / "half").exists()


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no archive .*x\.tar"):
        unpack(tmp_path / "x.tar", tmp_path / "x")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    write_tar(tmp_path / "x.tar")
    with pytest.raises(DataError, match=r"x\.tar: cannot be unpacked into"):
        unpack(tmp_path / "x.tar", tmp_path / "x.tar" / "folder", quiet)
