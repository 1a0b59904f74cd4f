"""A lock between processes, of one machine or of several that share a disk.

Why not the library `filelock`: its `SoftFileLock` frees the lock of a dead process on the same
host, but that of a host that went away only by age, which would also end a download of hours; its
`SoftReadWriteLock` has a heartbeat, but does not tell who holds it, waits for a dead process of the
same host, and leaves a folder of its own beside the data. What is needed here is one small file.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any

_Say = Callable[[str], None]


class FileLock:
    """Held while a file exists, which its holder touches all the time; a context manager.

    Creation is atomic, also on NFS. A lock is stale, and taken over, at once if its holder was a
    process of this machine that is gone, else if nobody touched it for a while: by the waiting
    process's own clock, since those of other hosts may be wrong.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        say: _Say = print,
        *,
        heartbeat: float = 15.0,
        stale_after: float = 180.0,
        poll: float = 0.5,
    ) -> None:
        """Names the lock; `with` acquires it and waits for as long as another process holds it.

        Args:
          path: the file that is the lock, in an existing folder.
          say: is told who holds the lock when there is something to wait for.
          heartbeat: seconds between two touches.
          stale_after: seconds without a touch after which a lock is stale. Longer than a minute
            where the disk is shared: NFS clients may see times of change that late.
          poll: seconds between two looks at a lock that another process holds.
        """
        self.path = pathlib.Path(path)
        self._say, self._poll = say, poll
        self._heartbeat, self._stale_after = heartbeat, stale_after
        self._content = ""
        self._released = threading.Event()
        self._thread = threading.Thread()

    def __enter__(self) -> FileLock:
        """Waits for the lock.

        Raises:
          OSError: the lock cannot be created in this folder.
        """
        self._content = _describe_this_process()
        seen, since, announced = None, 0.0, ""
        while not self._create():
            now = time.monotonic()
            found = self._look()
            if found is not None and found != seen:
                seen, since = found, now
            if found is not None and (_is_gone(found[0]) or now - since > self._stale_after):
                self._say(f"{self.path}: {_holder(found[0])} is gone; taking over")
                self._remove(found[0])
                continue
            if found is not None and found[0] != announced:
                announced = found[0]
                self._say(f"{self.path}: waiting for {_holder(announced)}")
            time.sleep(self._poll)
        self._released.clear()
        self._thread = threading.Thread(target=self._touch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Gives the lock back, unless another process has taken it over."""
        self._released.set()
        self._thread.join()
        found = self._look()
        if found is not None and found[0] == self._content:
            self.path.unlink(missing_ok=True)

    def _create(self) -> bool:
        """Whether the lock file is now there and ours."""
        try:
            number = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                file.write(self._content)
        except OSError:
            self.path.unlink(missing_ok=True)
            raise
        return True

    def _look(self) -> tuple[str, int] | None:
        """Contents and time of change; opening the file makes an NFS client ask the server."""
        try:
            with self.path.open(encoding="utf-8", errors="replace") as file:
                return file.read(), os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            return None

    def _touch(self) -> None:
        while not self._released.wait(self._heartbeat):
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def _remove(self, stale: str) -> None:
        """Removes a stale lock, but not the new one of a process that was faster."""
        aside = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex}")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        if aside.read_text(encoding="utf-8", errors="replace") != stale:
            with contextlib.suppress(OSError):
                os.link(aside, self.path)
        aside.unlink()


def _describe_this_process() -> str:
    started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    content = {"host": socket.gethostname(), "process": os.getpid(), "since": started}
    # The key tells two locks of one process apart.
    return json.dumps({**content, "machine": _machine(), "key": uuid.uuid4().hex}) + "\n"


def _machine() -> str:
    """What shares its process numbers with this process: not every container of that host name."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
        parts.append(pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    return " ".join(parts)


def _read(content: str) -> dict[str, Any]:
    """{} if the file is not (yet) what a holder writes."""
    try:
        values = json.loads(content)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _holder(content: str) -> str:
    values = _read(content)
    if not values:
        return "an unknown process"
    host, process, since = (values.get(key) for key in ("host", "process", "since"))
    return f"process {process} on {host}, which has held it since {since}"


def _is_gone(content: str) -> bool:
    values = _read(content)
    process = values.get("process")
    here = os.name == "posix" and values.get("machine") == _machine()
    if not here or not isinstance(process, int) or process < 1:
        return False
    try:
        os.kill(process, 0)  # only asks
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False
