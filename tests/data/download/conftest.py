from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.data.download.web import Site, serving


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    """A server on this machine, reached without a proxy."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as running:
        yield running
