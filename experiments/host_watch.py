"""Tells each process of a run at once when another one has ended, and why.

What runs on the devices of several hosts waits for all of them: when one process ends, the others
would hang until the runtime misses it, and then be aborted without a word about the reason. So each
process keeps a connection to the first one. The system closes the connections of a process however
it ends; what the first process learns, it passes on.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from equiformer_jax.data.processes import exchange

_SECONDS_TO_CONNECT = 20.0
# An error that comes up in all processes is told by each of them, if it gets there in this time.
SECONDS_OF_GRACE = 5.0

Message = dict[str, Any]


class HostWatch:
    """The connections of one process; all processes of a run make it, and end it, together."""

    def __init__(self, process: int, address: str | None, on_loss: Callable[[str], None]) -> None:
        """Connects the processes.

        Args:
          process: number of this process, from 0.
          address: under which the others reach the first process, a name or a number, without a
            port; its host name if `None`.
          on_loss: called in a thread when another process has ended before the run has; takes which
            one, and what is known of the reason.

        Raises:
          OSError: the first process cannot be reached.
        """
        self._process, self._on_loss = process, on_loss
        self._lock = threading.Lock()
        self._connections: dict[int, socket.socket] = {}
        self._finished: set[int] = set()
        self._changed = threading.Condition()
        self._is_over = False
        server, problem = _open_server() if process == 0 else (None, None)
        port = server.getsockname()[1] if server else 0
        here = (address or socket.gethostname(), port, secrets.token_hex(8), problem)
        places = exchange(here)
        host, port, token, problem = places[0]
        if problem is not None:
            raise OSError(problem)
        if server is not None:
            self._accept(server, len(places) - 1, token)
        else:
            connection = socket.create_connection((host, port), _SECONDS_TO_CONNECT)
            _send(connection, {"token": token, "process": process})
            self._listen_to(0, connection)

    def finish(self) -> None:
        """Waits until all processes have come to the end of the run."""
        if self._process == 0:
            self._wait_for(set(self._connections))
        self._send_to_all({"finished": True})
        if self._process != 0:
            self._wait_for({0})
        self._is_over = True

    def fail(self, reason: str) -> None:
        """Tells the others that this process is about to end; does nothing if they know already.

        Args:
          reason: an error, in a line.
        """
        self._is_over = True
        self._send_to_all({"ended": self._process, "reason": reason})
        if self._process == 0:  # the runtime of the others needs this process until they end
            self._wait_for(set(self._connections), 2 * SECONDS_OF_GRACE)

    def ignore_losses(self) -> None:
        """From now on nothing happens when another process ends."""
        self._is_over = True

    def _accept(self, server: socket.socket, count: int, token: str) -> None:
        server.settimeout(_SECONDS_TO_CONNECT)
        with server:
            while len(self._connections) < count:
                connection, _ = server.accept()
                connection.settimeout(_SECONDS_TO_CONNECT)
                try:
                    hello = next(_messages(connection), {})
                except (OSError, ValueError):
                    hello = {}
                if hello.get("token") == token:
                    self._listen_to(hello["process"], connection)
                else:  # a stranger
                    connection.close()

    def _listen_to(self, process: int, connection: socket.socket) -> None:
        connection.settimeout(None)
        self._connections[process] = connection
        threading.Thread(target=self._listen, args=(process, connection), daemon=True).start()

    def _listen(self, process: int, connection: socket.socket) -> None:
        try:
            for message in _messages(connection):
                if "finished" in message:
                    self._note_end_of(process)
                else:
                    self._lose(message["ended"], message["reason"])
        except OSError:
            pass
        is_lost = process not in self._finished
        self._note_end_of(process)
        if is_lost:
            self._lose(process, None)

    def _note_end_of(self, process: int) -> None:
        with self._changed:
            self._finished.add(process)
            self._changed.notify_all()

    def _wait_for(self, processes: set[int], timeout: float | None = None) -> None:
        with self._changed:
            self._changed.wait_for(lambda: processes <= self._finished, timeout)

    def _lose(self, process: int, reason: str | None) -> None:
        with self._lock:
            if self._process == 0 and not self._is_over:
                self._send_to_all({"ended": process, "reason": reason})
            if reason is not None:
                time.sleep(SECONDS_OF_GRACE)
            if not self._is_over:
                self._is_over = True
                if self._process == 0:  # as in `fail`
                    self._wait_for(set(self._connections) - {process}, 2 * SECONDS_OF_GRACE)
                why = reason or "it was killed, or its machine is gone; its own log may tell more"
                self._on_loss(f"process {process} of this run has ended: {why}")

    def _send_to_all(self, message: Message) -> None:
        for connection in list(self._connections.values()):
            try:
                _send(connection, message)
            except OSError:  # that process has ended, too
                continue


def _open_server() -> tuple[socket.socket | None, str | None]:
    """A socket that takes connections, or why there is none."""
    try:
        return socket.create_server(("", 0)), None
    except OSError as error:
        return None, f"{error}"


def _send(connection: socket.socket, message: Message) -> None:
    connection.sendall((json.dumps(message) + "\n").encode())


def _messages(connection: socket.socket) -> Iterator[Message]:
    """The messages from the other end, until it ends."""
    with connection.makefile("r", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
