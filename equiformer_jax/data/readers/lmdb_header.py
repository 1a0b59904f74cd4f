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
from equiformer_jax.data.readers.file_format import HEAD_SIZE, describe_format

_MAGIC = 0xBEEFC0DE
_META_FLAG = 0x08

# Page header (number, unused, flags, unused), magic number, version, address and size of the map,
# the page size, 92 bytes about the two trees, number of the last page, number of the transaction.
_META_PAGE = struct.Struct("<QHH4xIIQQI92xQQ")

_PAGE_SIZES = tuple(2**power for power in range(8, 17))


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
        start = file.read(HEAD_SIZE)
        first = _read_meta(start)
        if first is None:
            found = describe_format(start)
            raise DataError(path, f"expected an LMDB file of a 64-bit machine; this is {found}")
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


def _read_meta(page: bytes) -> _Meta | None:
    """The facts of a meta page; None where it is none that a 64-bit machine wrote."""
    if len(page) < _META_PAGE.size:
        return None
    _, _, flags, magic, _, _, _, page_size, last_page, transaction = _META_PAGE.unpack_from(page)
    if magic != _MAGIC or not flags & _META_FLAG or page_size not in _PAGE_SIZES:
        return None
    return _Meta(page_size, last_page, transaction)
