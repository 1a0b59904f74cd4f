from __future__ import annotations

import hashlib
import os

import pytest

from equiformer_jax.data.download import fetch as fetch_module
from equiformer_jax.data.download.cache import marker_of
from equiformer_jax.data.download.fetch import DownloadError, fetch, fetch_named
from equiformer_jax.data.download.sources import RemoteFile
from equiformer_jax.data.download.transfer import Patience
from equiformer_jax.data.errors import DataError
from tests.data.download import children

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(tries=2, wait=0.01, timeout=5.0)
NOBODY = "http://127.0.0.1:9/data.bin"

FETCH = """
from equiformer_jax.data.download.fetch import fetch
from equiformer_jax.data.download.sources import RemoteFile
from equiformer_jax.data.download.transfer import Patience
print(fetch(
    RemoteFile((arguments["url"],), "data.bin"),
    arguments["folder"],
    lambda line: print(line, flush=True),
    patience=Patience(tries=2, wait=arguments["wait"]),
))
"""


def remote(*urls, **known):
    return RemoteFile(urls, "data.bin", **known)


def get(source, folder):
    return fetch(source, folder, lambda line: None, patience=QUICK)


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_file_is_fetched_once_and_nothing_else_is_left(site, tmp_path):
    site.add("data.bin", CONTENT)
    source = remote(site.url("data.bin"), size=len(CONTENT), sha256=SHA256)
    folder = tmp_path / "made" / "for it"
    path = get(source, folder)
    assert path == folder / "data.bin"
    assert path.read_bytes() == CONTENT
    assert names(folder) == {"data.bin", marker_of(path).name}
    assert get(source, folder) == path
    assert len(site.requests) == 1


def test_the_next_address_is_tried(site, tmp_path):
    site.add("page", b"<html></html>", content_type="text/html")
    site.add("other", CONTENT[::-1])
    site.add("data.bin", CONTENT)
    urls = [NOBODY, *(site.url(name) for name in ("missing", "page", "other", "data.bin"))]
    assert get(remote(*urls, sha256=SHA256), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"sha256": "0" * 64}, f"expected sha256 {'0' * 64}, got {SHA256}"),
        ({"md5": "0" * 32}, f"expected md5 {'0' * 32}, got "),
        ({"size": 5}, "the server's file has 10240 bytes; expected 5"),
    ],
)
def test_the_wrong_file_is_refused_and_leaves_nothing(site, tmp_path, known, message):
    site.add("data.bin", CONTENT)
    with pytest.raises(DownloadError, match=message):
        get(remote(site.url("data.bin"), **known), tmp_path)
    assert names(tmp_path) == set()


def test_without_a_network_it_is_told_what_to_put_where(tmp_path):
    source = remote(NOBODY, NOBODY + "2", size=10240, sha256=SHA256)
    with pytest.raises(DataError) as raised:
        get(source, tmp_path)
    text = str(raised.value)
    target = tmp_path / "data.bin"
    assert text.startswith(f"{target}: cannot be fetched:\n  {NOBODY}: no answer: ")
    assert "Connection refused" in text
    assert f"fetch one of these addresses on a machine that has a network\n  {NOBODY}\n" in text
    assert text.endswith(f"(10240 bytes, sha256 {SHA256}) and copy the file to\n  {target}")


def test_a_file_put_there_by_hand_is_taken_and_read_once(tmp_path, monkeypatch):
    (tmp_path / "data.bin").write_bytes(CONTENT)
    source = remote(NOBODY, size=len(CONTENT), sha256=SHA256)
    path = get(source, tmp_path)
    assert marker_of(path).exists()
    monkeypatch.setattr(fetch_module, "verify", None)  # would fail if it were called
    assert get(source, tmp_path) == path


def test_a_truncated_file_put_there_by_hand_is_told_and_kept(tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(CONTENT[:100])
    source = remote(NOBODY, size=len(CONTENT), sha256=SHA256)
    with pytest.raises(DownloadError, match=r"data\.bin: expected 10240 bytes, got 100; remove it"):
        get(source, tmp_path)
    assert names(tmp_path) == {"data.bin"}


def test_a_file_that_changed_since_it_was_fetched_is_told(site, tmp_path):
    site.add("data.bin", CONTENT)
    path = get(remote(site.url("data.bin")), tmp_path)
    path.write_bytes(CONTENT[:100])
    with pytest.raises(DownloadError, match=f"changed since it was fetched: sha256 was {SHA256}"):
        get(remote(site.url("data.bin")), tmp_path)


def test_a_copied_folder_is_verified_again_and_taken(site, tmp_path):
    site.add("data.bin", CONTENT)
    path = get(remote(site.url("data.bin")), tmp_path)
    os.utime(path, (1, 1))
    assert get(remote(NOBODY), tmp_path) == path
    assert len(site.requests) == 1


def test_a_folder_that_cannot_be_written_is_told(site, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError, match=r"(?s)cannot be written: .*EQUIFORMER_DATA.*by hand"):
        get(remote(site.url("data.bin")), tmp_path / "file" / "folder")
    assert not site.requests


def test_a_complete_file_in_a_folder_that_cannot_be_written_is_taken(tmp_path, monkeypatch):
    (tmp_path / "data.bin").write_bytes(CONTENT)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(fetch_module, "FileLock", None)  # would fail if it were used
    assert get(remote(NOBODY, sha256=SHA256), tmp_path) == tmp_path / "data.bin"


def test_of_two_processes_one_fetches(site, tmp_path):
    site.add("data.bin", CONTENT, seconds=1.0)
    arguments = {"url": site.url("data.bin"), "folder": str(tmp_path), "wait": 0.01}
    processes = [children.start(FETCH, **arguments) for _ in range(2)]
    outputs = [children.finish(process) for process in processes]
    assert len(site.requests) == 1
    assert sorted(output.count("fetching") for output in outputs) == [0, 1]
    assert all(output.endswith(f"{tmp_path / 'data.bin'}\n") for output in outputs)


def test_after_a_killed_process_the_next_one_goes_on(site, tmp_path):
    site.add("data.bin", CONTENT, cuts=[1000])
    url = site.url("data.bin")
    process = children.start(FETCH, url=url, folder=str(tmp_path), wait=60.0)
    while "trying again" not in process.stdout.readline():
        assert process.poll() is None
    children.kill(process)
    left = {"data.bin.partial", "data.bin.partial.json", "data.bin.lock"}
    assert names(tmp_path) == left
    lines: list[str] = []
    path = fetch(remote(url), tmp_path, lines.append, patience=QUICK)
    assert path.read_bytes() == CONTENT
    assert "is gone; taking over" in lines[0]
    assert site.ranges == [None, "bytes=1000-"]
    assert names(tmp_path) == {"data.bin", marker_of(path).name}


def test_known_sources_lie_in_the_folder_of_their_data_set(tmp_path):
    folder = tmp_path / "md17"
    folder.mkdir()
    path = folder / "md17_aspirin.npz"
    path.write_bytes(b"PK\x05\x06" + bytes(18))  # an empty zip archive
    assert fetch_named("md17/aspirin", tmp_path) == path


def test_an_unknown_source_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown source 'md17/water'; known are .*'md17/aspirin'"):
        fetch_named("md17/water", tmp_path)


def test_a_beginning_that_was_damaged_costs_one_more_attempt(site, tmp_path):
    site.add("data.bin", CONTENT, cuts=[1000])
    url = site.url("data.bin")
    source = remote(url, sha256=SHA256)
    with pytest.raises(DownloadError):
        fetch(source, tmp_path, print, patience=Patience(tries=1, wait=0))
    partial = tmp_path / "data.bin.partial"
    partial.write_bytes(b"\0" * len(partial.read_bytes()))
    assert get(source, tmp_path).read_bytes() == CONTENT
    assert site.ranges == [None, "bytes=1000-", None]
