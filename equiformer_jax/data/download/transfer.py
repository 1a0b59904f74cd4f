"""One file over HTTP into a partial file, going on where an earlier attempt was cut off."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import shutil
import ssl
import time
import urllib.error
import urllib.request
from typing import Any

from equiformer_jax.data.download.progress import Progress, Say
from equiformer_jax.data.download.sources import readable_size

_BLOCK = 1 << 20
_LONGEST_WAIT = 30.0
_TRIES_IF_UNREACHABLE = 2
_TEMPORARY_STATUS = (408, 425, 429)


@dataclasses.dataclass(frozen=True)
class Patience:
    """When to give up.

    Attributes:
      tries: attempts in a row at one address without a megabyte of progress; two at most where
        nobody answers.
      wait: seconds before the second one; doubled each time, up to half a minute.
      timeout: seconds of silence after which a connection counts as broken.
    """

    tries: int = 6
    wait: float = 1.0
    timeout: float = 60.0


class TransferError(Exception):
    """The file cannot be had from this address; the message says why, but not from where."""


class _BrokenError(Exception):
    """An attempt failed in a way that another one may not."""


class _UnreachableError(_BrokenError):
    """Nobody answered."""


def transfer(
    url: str,
    partial: pathlib.Path,
    *,
    size: int | None = None,
    patience: Patience | None = None,
    say: Say = print,
) -> None:
    """Brings a file into `partial`, which afterwards holds as much as the server announced.

    What `partial` already holds is kept if a note beside it says that it came from the same
    address, and if the server confirms that its file has not changed since (`If-Range`).

    Args:
      url: the address.
      partial: where to put the file, in an existing folder.
      size: bytes that it must have, if known.
      patience: when to give up.
      say: is told how far it is, every few seconds.

    Raises:
      TransferError: the server has no such file, another one (a web page, another size), or does
        not answer.
      OSError: the file cannot be written.
    """
    patience = patience or Patience()
    failures, settled = 0, _size(partial)
    while True:
        try:
            _attempt(url, partial, size, patience.timeout, say)
            return
        except _BrokenError as error:
            if _size(partial) - settled >= _BLOCK:
                failures, settled = 0, _size(partial)
            failures += 1
            unreachable = isinstance(error, _UnreachableError)
            tries = min(patience.tries, _TRIES_IF_UNREACHABLE) if unreachable else patience.tries
            if failures >= tries:
                raise TransferError(f"{error} ({failures} attempts)") from error
            pause = min(patience.wait * 2 ** (failures - 1), _LONGEST_WAIT)
            say(f"{url}: {error}; trying again in {pause:.0f} s")
            time.sleep(pause)


def discard(partial: pathlib.Path) -> None:
    """Removes a partial file and the note beside it."""
    partial.unlink(missing_ok=True)
    _note_of(partial).unlink(missing_ok=True)


def _size(path: pathlib.Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _attempt(url: str, partial: pathlib.Path, size: int | None, timeout: float, say: Say) -> None:
    note = _read_note(partial, url)
    offset = _size(partial) if note else 0
    if offset and offset == note.get("total"):
        return  # the process was ended between the last byte and the verification
    with _open(url, partial, offset, note, timeout) as response:
        if response.status != 206:
            offset = 0  # all of it: the server's file has changed, or it cannot send parts
        elif _first_byte(response) != offset or _validator(response) not in ("", note["validator"]):
            discard(partial)
            raise _BrokenError("the server sent a part of another file")
        total = _total(response, offset)
        _check_answer(response, partial, total, size)
        _check_space(partial.parent, total or size, offset)
        with partial.open("ab" if offset else "wb") as file:
            # After the old contents are gone, so that a note is never beside another file's bytes.
            _write_note(partial, url, _validator(response), total)
            _copy(response, file, Progress(say, url, partial.parent, offset, total))
    if total is not None and _size(partial) != total:
        raise _BrokenError(f"the connection ended at byte {_size(partial)} of {total}")


def _open(url: str, partial: pathlib.Path, offset: int, note: dict, timeout: float) -> Any:
    headers = {"User-Agent": "equiformer_jax", "Accept-Encoding": "identity"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": note["validator"]}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        answer = f"the server answers {error.code} {error.reason}"
        if error.code == 416:  # nothing of the file lies behind the partial one's end
            discard(partial)
            raise _BrokenError(answer) from error
        if error.code >= 500 or error.code in _TEMPORARY_STATUS:
            raise _BrokenError(answer) from error
        raise TransferError(answer) from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise TransferError(f"its certificate is not trusted: {reason}") from error
        reset = isinstance(reason, ConnectionResetError | http.client.HTTPException)
        kind = _BrokenError if reset else _UnreachableError
        raise kind(f"no answer: {reason}") from error


def _first_byte(response: Any) -> int | None:
    """From `Content-Range: bytes FIRST-LAST/TOTAL`."""
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.strip().isdigit() else None


def _total(response: Any, offset: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return offset + int(length) if length.strip().isdigit() else None


def _check_answer(
    response: Any, partial: pathlib.Path, total: int | None, size: int | None
) -> None:
    if response.headers.get_content_type() == "text/html":
        raise TransferError("the server sent a web page instead of the file")
    if None not in (total, size) and total != size:
        discard(partial)
        raise TransferError(f"the server's file has {total} bytes; expected {size}")


def _check_space(folder: pathlib.Path, total: int | None, offset: int) -> None:
    needed, free = (total or 0) - offset, shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"not enough space on the disk: {readable_size(needed)} needed, "
            f"{readable_size(free)} free"
        )


def _note_of(partial: pathlib.Path) -> pathlib.Path:
    return partial.with_name(partial.name + ".json")


def _read_note(partial: pathlib.Path, url: str) -> dict[str, Any]:
    """Where the partial file came from; {} if it cannot be continued."""
    try:
        note = json.loads(_note_of(partial).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    usable = isinstance(note, dict) and note.get("url") == url and note.get("validator")
    return note if usable else {}


def _validator(response: Any) -> str:
    """What identifies this state of the server's file; "" if nothing does."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _write_note(partial: pathlib.Path, url: str, validator: str, total: int | None) -> None:
    content = {"url": url, "validator": validator, "total": total}
    _note_of(partial).write_text(json.dumps(content) + "\n", encoding="utf-8")


def _copy(response: Any, file: Any, progress: Progress) -> None:
    """Copies to the end of the connection; errors of the connection and of the disk stay apart."""
    while True:
        try:
            block = response.read1(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenError(f"the connection broke: {error or type(error).__name__}") from error
        if not block:
            break
        file.write(block)
        progress.add(len(block))
    file.flush()
    with contextlib.suppress(OSError):  # not every file system can
        os.fsync(file.fileno())
