"""Where fetched files are kept, and whether the one that is there is the whole right one."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import time
import zipfile
from typing import Any

from equiformer_jax.data.download.sources import RemoteFile

FOLDER_VARIABLE = "EQUIFORMER_DATA"

# What a file with this ending begins with; a tar archive says what it is at byte 257.
_BEGINNINGS = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ"}
_TAR_MARK = (257, b"ustar")
_BLOCK = 1 << 20


def data_folder(folder: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """The folder of all data sets.

    Args:
      folder: one that the user chose; else the environment variable `EQUIFORMER_DATA`, else
        `~/.cache/equiformer_jax`.

    Returns:
      Its absolute path; it need not exist.
    """
    chosen = folder or os.environ.get(FOLDER_VARIABLE) or "~/.cache/equiformer_jax"
    return pathlib.Path(os.path.abspath(os.path.expanduser(chosen)))


def verify(path: pathlib.Path, source: RemoteFile) -> str:
    """Compares a file with all that is known of it, the quick comparisons first.

    Args:
      path: an existing file.
      source: what it ought to be.

    Returns:
      Its sha256, in hexadecimal digits.

    Raises:
      ValueError: what was expected and what was found; does not name the file.
    """
    size = path.stat().st_size
    if source.size is not None and size != source.size:
        raise ValueError(f"expected {source.size} bytes, got {size}")
    _check_content(path, source.file_name)
    digests = _digests(path, with_md5=source.md5 is not None)
    for algorithm, expected in (("sha256", source.sha256), ("md5", source.md5)):
        if expected is not None and not digests[algorithm].startswith(expected.lower()):
            raise ValueError(f"expected {algorithm} {expected}, got {digests[algorithm]}")
    return digests["sha256"]


def _check_content(path: pathlib.Path, file_name: str) -> None:
    """Error pages and, for zip archives, missing ends show without any checksum."""
    ending = pathlib.PurePath(file_name).suffix
    start, mark = _TAR_MARK if ending == ".tar" else (0, _BEGINNINGS.get(ending, b""))
    with path.open("rb") as file:
        beginning = file.read(512)
    if ending in (".zip", ".npz"):
        fits = zipfile.is_zipfile(path)
    else:
        fits = beginning[start:].startswith(mark)
    if not fits:
        raise ValueError(f"not a whole {ending} file; it begins with {beginning[:24]!r}")


def _digests(path: pathlib.Path, *, with_md5: bool) -> dict[str, str]:
    totals = {"sha256": hashlib.sha256()}
    if with_md5:
        totals["md5"] = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            for total in totals.values():
                total.update(block)
    return {name: total.hexdigest() for name, total in totals.items()}


def marker_of(path: pathlib.Path) -> pathlib.Path:
    """The small file beside a verified one that saves verifying it again."""
    return path.with_name(path.name + ".verified.json")


def write_marker(path: pathlib.Path, sha256: str, url: str | None) -> None:
    """Notes that a file was verified.

    Args:
      path: the file.
      sha256: its checksum.
      url: where it came from; `None` if a person put it there.
    """
    status = path.stat()
    content = {
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "sha256": sha256,
        "url": url,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    # Through a file of this process: others must never read half a marker.
    half = path.with_name(f"{path.name}.verified.{os.getpid()}")
    half.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(half, marker_of(path))


def read_marker(path: pathlib.Path) -> dict[str, Any]:
    """What `write_marker` noted of a file; {} if nothing."""
    try:
        marker = json.loads(marker_of(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) else {}


def is_verified(path: pathlib.Path, source: RemoteFile) -> bool:
    """Whether a file is unchanged since it was verified to be this one; does not read it."""
    try:
        status = path.stat()
    except OSError:
        return False
    marker = read_marker(path)
    unchanged = (marker.get("size"), marker.get("mtime_ns")) == (
        status.st_size,
        status.st_mtime_ns,
    )
    return (
        unchanged
        and source.size in (None, status.st_size)
        and str(marker.get("sha256")).startswith((source.sha256 or "").lower())
    )
