"""Archives unpacked into a folder, all of it or nothing, and nothing outside of it."""

from __future__ import annotations

import lzma
import os
import pathlib
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable

from equiformer_jax.data.download.lock import FileLock
from equiformer_jax.data.errors import DataError

# What the standard library raises for archives that are damaged or cut off.
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    RuntimeError,  # zip: encrypted, or an unknown compression
)


def unpack(
    archive: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    say: Callable[[str], None] = print,
) -> pathlib.Path:
    """Unpacks a tar archive (plain, gz, bz2, xz) or a zip archive, unless that was done before.

    Everything goes into a folder beside `folder` first, which is renamed when it is complete. One
    process does it and the others wait.

    Args:
      archive: the archive; its contents say of which kind it is.
      folder: where its contents are to lie; if it exists, nothing is done.
      say: is told what happens, in lines.

    Returns:
      The path of the folder.

    Raises:
      FileNotFoundError: there is no such archive.
      DataError: the archive is damaged, is no archive, contains a name that leads out of the
        folder, or cannot be written out.
    """
    archive, folder = pathlib.Path(archive), pathlib.Path(os.path.abspath(folder))
    if folder.is_dir():
        return folder
    if not archive.is_file():
        raise FileNotFoundError(f"there is no archive {archive}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock"), say):
            if not folder.is_dir():
                say(f"unpacking {archive} into {folder}")
                _unpack_beside(archive, folder)
    except OSError as error:
        raise DataError(archive, f"cannot be unpacked into {folder}: {error}") from error
    return folder


def _unpack_beside(archive: pathlib.Path, folder: pathlib.Path) -> None:
    beside = folder.with_name(folder.name + ".unpacking")
    shutil.rmtree(beside, ignore_errors=True)  # of a process that was ended
    try:
        _extract(archive, beside)
        os.rename(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _extract(archive: pathlib.Path, folder: pathlib.Path) -> None:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                for member in file.infolist():
                    _check_zip_member(archive, member)
                file.extractall(folder)
        else:
            with tarfile.open(archive) as file:
                file.extractall(folder, filter="data")
    except tarfile.FilterError as error:
        raise DataError(archive, f"leads out of the folder: {error}") from error
    except _DAMAGED as error:
        raise DataError(archive, f"not a whole tar or zip archive: {error}") from error


def _check_zip_member(archive: pathlib.Path, member: zipfile.ZipInfo) -> None:
    path = pathlib.PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(member.external_attr >> 16):
        raise DataError(archive, "leads out of the folder", field=member.filename)
