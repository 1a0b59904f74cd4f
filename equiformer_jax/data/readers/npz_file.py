"""Arrays out of an `.npz` file, with errors that say what is wrong with the file.

Nothing is unpickled: a file from the network must not be able to run code.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.file_format import HEAD_SIZE, describe_format


def read_npz(path: str | os.PathLike[str], keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Reads some arrays of an `.npz` file.

    Args:
      path: the file.
      keys: the arrays that it must have; others are not read.

    Returns:
      The arrays by key, in memory, as stored.

    Raises:
      FileNotFoundError: the file is not there.
      DataError: it is not an `.npz` file, is damaged, lacks a key, or an array cannot be read.
    """
    if os.path.isdir(path):
        raise DataError(path, "a folder; expected an .npz file")
    with open(path, "rb") as content:
        return read_npz_content(content, keys, os.fspath(path))


def read_npz_content(content: BinaryIO, keys: Sequence[str], title: str) -> dict[str, np.ndarray]:
    """As `read_npz`, from an open file or from bytes that came out of an archive.

    Args:
      content: seekable.
      keys: the arrays that it must have.
      title: what to call the file in messages.

    Raises:
      DataError: as `read_npz`.
    """
    head = content.read(HEAD_SIZE)
    found = describe_format(head)
    if not head.startswith(b"PK"):
        raise DataError(title, f"expected an .npz file, but this is {found}")
    content.seek(0)
    try:
        archive = np.load(content, allow_pickle=False)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        size = content.seek(0, os.SEEK_END)
        raise DataError(
            title,
            f"expected an .npz file, but this is {found} that is damaged or cut off "
            f"after {size} bytes ({error})",
        ) from error
    with archive:
        missing = [key for key in keys if key not in archive.files]
        if missing:
            raise DataError(title, f"lacks the arrays {missing}; it has {archive.files}")
        return {key: _array(archive, key, title) for key in keys}


def _array(archive: np.lib.npyio.NpzFile, key: str, title: str) -> np.ndarray:
    try:
        array = archive[key]
    # A damaged member can fail in zip, in each decompressor, or in NumPy's parser of headers; what
    # they raise has no common base (zlib.error, EOFError, BadZipFile, tokenize errors, ...).
    except Exception as error:
        reason = str(error)
        if "allow_pickle" in reason:
            reason = "an array of Python objects, which is not read because unpickling runs code"
        raise DataError(
            title, f"cannot be read: {reason or type(error).__name__}", field=key
        ) from error
    if not isinstance(array, np.ndarray):
        raise DataError(title, "not a NumPy array", field=key)
    return array
