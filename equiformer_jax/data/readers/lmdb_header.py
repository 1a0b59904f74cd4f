"""Is a file a whole LMDB file? Answered from its first bytes and its size, without LMDB.

LMDB maps a file into memory and trusts it: reading a page that a truncated file no longer has would
end the process with SIGBUS. The two pages at the start of a file, its meta pages, tell how many
pages there must be; the newer of them counts.
"""

from __future__ import annotations

import os
import pathlib
import struct
from typing import NamedTuple

from equiformer_jax.data.errors import DataError

_MAGIC = 0xBEEFC0DE
_META_FLAG = 0x08

# Page header (number, unused, flags, unused), magic number, version, address and size of the map,
# the page size, 92 bytes about the two trees, number of the last page, number of the transaction.
_META_PAGE = struct.Struct("<QHH4xIIQQI92xQQ")

_PAGE_SIZES = tuple(2**power for power in range(8, 17))

# How a file starts that somebody may take for an LMDB file.
_STARTS = (
    (b"\x1f\x8b", "a gzip archive, to be unpacked first"),
    (b"\xfd7zXZ\x00", "an xz archive, to be unpacked first"),
    (b"PK\x03\x04", "a zip archive or an npz file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"version https://git-lfs", "a Git LFS pointer in place of the file"),
    (b"\x80", "a bare pickle"),
    (b"<", "a web page"),
    (b"\x00" * 64, "a file of zeros, perhaps an unfinished download"),
)
_TAR_MARK = slice(257, 262)


class _Meta(NamedTuple):
    """What a meta page says: bytes per page, number of the last page, number of the transaction."""

    page_size: int
    last_page: int
    transaction: int


def check_lmdb_file(path: str | os.PathLike[str]) -> None:
    """Makes sure that LMDB can open the file without reading beyond its end.

    Damage inside of pages that are all there is left to LMDB itself, which reports most of it.

    Args:
      path: an existing file.

    Raises:
      FileNotFoundError: there is no such file.
      DataError: it is empty, truncated or something else than an LMDB file of a 64-bit machine.
    """
    size = pathlib.Path(path).stat().st_size
    with open(path, "rb") as file:
        start = file.read(512)
        first = _read_meta(start)
        if first is None:
            raise DataError(path, f"expected an LMDB file, but it looks like {looks_like(start)}")
        file.seek(first.page_size)
        second = _read_meta(file.read(_META_PAGE.size))
    if second is None:
        raise DataError(path, f"truncated or damaged: {size} bytes without a second meta page")
    newest = first if first.transaction >= second.transaction else second
    expected = (newest.last_page + 1) * first.page_size
    if size < expected:
        raise DataError(
            path, f"truncated: it has {size} bytes of the {expected} that its meta page announces"
        )


def looks_like(start: bytes) -> str:
    """Names the kind of a file, as far as its first bytes tell.

    Args:
      start: the first 512 bytes, or all.
    """
    if not start:
        return "an empty file"
    for prefix, kind in _STARTS:
        if start.startswith(prefix):
            return kind
    if start[_TAR_MARK] == b"ustar":
        return "a tar archive, to be unpacked first"
    is_text = all(byte >= 32 or byte in b"\t\r\n" for byte in start)
    return f"text that starts with {start[:30]!r}" if is_text else f"a file of {start[:8].hex(' ')}"


def _read_meta(page: bytes) -> _Meta | None:
    """The facts of a meta page; None where it is none that a 64-bit machine wrote."""
    if len(page) < _META_PAGE.size:
        return None
    _, _, flags, magic, _, _, _, page_size, last_page, transaction = _META_PAGE.unpack_from(page)
    if magic != _MAGIC or not flags & _META_FLAG or page_size not in _PAGE_SIZES:
        return None
    return _Meta(page_size, last_page, transaction)
