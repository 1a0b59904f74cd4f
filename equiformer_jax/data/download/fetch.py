"""A public file on this machine: fetched once, verified, and never half there under its name."""

from __future__ import annotations

import contextlib
import os
import pathlib

from equiformer_jax.data.download.cache import (
    FOLDER_VARIABLE,
    data_folder,
    is_verified,
    read_marker,
    verify,
    write_marker,
)
from equiformer_jax.data.download.lock import FileLock
from equiformer_jax.data.download.progress import Say
from equiformer_jax.data.download.sources import SOURCES, RemoteFile
from equiformer_jax.data.download.transfer import Patience, TransferError, discard, transfer
from equiformer_jax.data.errors import DataError


class DownloadError(DataError):
    """A file could not be fetched; the message says how to put it there by hand."""


def fetch_named(
    name: str,
    folder: str | os.PathLike[str] | None = None,
    *,
    say: Say = print,
    patience: Patience | None = None,
) -> pathlib.Path:
    """Fetches one of the public files that the package knows.

    Args:
      name: a key of `SOURCES`, such as "md17/aspirin".
      folder: the folder of all data sets, see `data_folder`; the file lies in a folder in it that
        is called like the data set, `md17`.
      say: see `fetch`.
      patience: see `fetch`.

    Returns:
      The file's path.

    Raises:
      ValueError: the name is unknown.
      DownloadError: see `fetch`.
    """
    if name not in SOURCES:
        raise ValueError(f"name: unknown source {name!r}; known are {sorted(SOURCES)}")
    place = data_folder(folder) / name.partition("/")[0]
    return fetch(SOURCES[name], place, say=say, patience=patience)


def fetch(
    source: RemoteFile,
    folder: str | os.PathLike[str],
    say: Say = print,
    *,
    patience: Patience | None = None,
) -> pathlib.Path:
    """Fetches a file unless it is already there, whole.

    A file that somebody put there is taken if it agrees with what is known of it. Of several
    processes that want the same file one fetches it and the others wait, also those of other
    hosts on a shared disk. A download that was cut off goes on where it stopped.

    Args:
      source: the file.
      folder: where to keep it; made if it does not exist.
      say: is told what happens, in lines.
      patience: how long to try an address.

    Returns:
      The path of the file, which is complete and verified.

    Raises:
      DownloadError: no address gave the right file, the folder cannot be written, or the file
        that is there is another one; says what to fetch by hand and where to put it.
    """
    target = pathlib.Path(os.path.abspath(folder)) / source.file_name
    if is_verified(target, source):
        return target
    try:
        if target.exists() and not os.access(target.parent, os.W_OK):
            _accept(target, source)  # a folder that others filled; there is nothing to lock
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock"), say):
            if target.exists():
                if not is_verified(target, source):
                    _accept(target, source)
            else:
                _download(source, target, patience, say)
    except OSError as error:
        raise DownloadError(target, _cannot_write(source, target, error)) from error
    return target


def _accept(target: pathlib.Path, source: RemoteFile) -> None:
    """Takes a file that was put there by hand, or by another program."""
    try:
        sha256 = verify(target, source)
        _check_unchanged(target, source, sha256)
    except ValueError as error:
        raise DownloadError(
            target, f"{error}; remove it, and it is fetched again.\n{_by_hand(source, target)}"
        ) from error
    with contextlib.suppress(OSError):  # without the marker it is verified again next time
        write_marker(target, sha256, url=None)


def _check_unchanged(target: pathlib.Path, source: RemoteFile, sha256: str) -> None:
    """Where no checksum is published, the one of the file that was once fetched counts."""
    earlier = read_marker(target).get("sha256", sha256)
    if source.sha256 is None and source.md5 is None and earlier != sha256:
        raise ValueError(f"changed since it was fetched: sha256 was {earlier}, is {sha256}")


def _download(
    source: RemoteFile, target: pathlib.Path, patience: Patience | None, say: Say
) -> None:
    partial = target.with_name(target.name + ".partial")
    failures = []
    for url in source.urls:
        goes_on = partial.exists()
        try:
            try:
                sha256 = _transferred(url, partial, source, patience, say)
            except _WrongFileError:
                if not goes_on:
                    raise
                # What was there before may have been damaged: once more, from the beginning.
                sha256 = _transferred(url, partial, source, patience, say)
        except TransferError as error:
            failures.append(f"  {url}: {error}")
            continue
        os.replace(partial, target)
        discard(partial)
        write_marker(target, sha256, url)
        say(f"{target}: complete")
        return
    reasons = "\n".join(failures)
    raise DownloadError(target, f"cannot be fetched:\n{reasons}\n{_by_hand(source, target)}")


class _WrongFileError(TransferError):
    """What was fetched is not the file that was asked for."""


def _transferred(
    url: str, partial: pathlib.Path, source: RemoteFile, patience: Patience | None, say: Say
) -> str:
    """Fetches, or goes on with, the partial file; gives its sha256 once it is verified."""
    transfer(url, partial, size=source.size, patience=patience, say=say)
    try:
        return verify(partial, source)
    except ValueError as error:
        discard(partial)
        raise _WrongFileError(f"the server's file is another one: {error}") from error


def _by_hand(source: RemoteFile, target: pathlib.Path) -> str:
    addresses = "\n".join(f"  {url}" for url in source.urls)
    which = "one of these addresses" if len(source.urls) > 1 else "this address"
    return (
        f"To put it there by hand, fetch {which} on a machine that has a network\n{addresses}\n"
        f"({source.description}) and copy the file to\n  {target}"
    )


def _cannot_write(source: RemoteFile, target: pathlib.Path, error: OSError) -> str:
    return (
        f"cannot be written: {error}. Choose another folder, for instance with the environment "
        f"variable {FOLDER_VARIABLE}.\n{_by_hand(source, target)}"
    )
