"""A web server on this machine that can do what bad ones do."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.server
import threading
import time
from collections.abc import Iterator


@dataclasses.dataclass
class Page:
    """What the server gives at one path.

    `cuts` are the numbers of bytes after which it breaks the next connections; then it is whole.
    """

    content: bytes
    content_type: str = "application/octet-stream"
    ranges: bool = True
    tag: bool = True
    honors_if_range: bool = True
    statuses: list[int] = dataclasses.field(default_factory=list)
    cuts: list[int] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:8]}"'


class Site:
    """The pages by path, the requests that came (path and `Range`), and the address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, str | None]] = []

    def add(self, path: str, content: bytes, **options) -> Page:
        self.pages[path] = Page(content, **options)
        return self.pages[path]

    def url(self, path: str) -> str:
        return self.address + path

    @property
    def ranges(self) -> list[str | None]:
        return [requested for _, requested in self.requests]


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        site, requested = self.server.site, self.headers.get("Range")
        site.requests.append((self.path.removeprefix("/"), requested))
        page = site.pages.get(self.path.removeprefix("/"))
        if page is None:
            self.send_error(404)
            return
        if page.statuses:
            self.send_error(page.statuses.pop(0))
            return
        time.sleep(page.seconds)
        self._send(page, requested)

    def _send(self, page, requested):
        start, size = 0, len(page.content)
        asked = self.headers.get("If-Range")
        same = not page.honors_if_range or asked in (None, page.etag)
        if requested and page.ranges and same:
            start = int(requested.removeprefix("bytes=").rstrip("-"))
            if start >= size:
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if page.tag:
            self.send_header("ETag", page.etag)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        end = start + page.cuts.pop(0) if page.cuts else size
        self.wfile.write(page.content[start:end])

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serving() -> Iterator[Site]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.site = Site(f"http://127.0.0.1:{server.server_address[1]}/")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.site
        finally:
            server.shutdown()
            thread.join()
