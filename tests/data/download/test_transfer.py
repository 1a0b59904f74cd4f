from __future__ import annotations

import shutil

import pytest

from equiformer_jax.data.download.transfer import Patience, TransferError, discard, transfer

CONTENT = bytes(range(256)) * 40
QUICK = Patience(tries=3, wait=0.01, timeout=5.0)


@pytest.fixture
def partial(tmp_path):
    return tmp_path / "data.bin.partial"


def bring(site, partial, path="data.bin", **options):
    lines: list[str] = []
    transfer(site.url(path), partial, patience=QUICK, say=lines.append, **options)
    return lines


def test_a_file_comes_whole(site, partial):
    site.add("data.bin", CONTENT)
    lines = bring(site, partial)
    assert partial.read_bytes() == CONTENT
    assert site.ranges == [None]
    assert lines[0] == f"fetching {site.url('data.bin')} (10.2 kB) into {partial.parent}"


def test_a_broken_connection_goes_on_where_it_was_cut(site, partial):
    site.add("data.bin", CONTENT, cuts=[1000, 500])
    lines = bring(site, partial)
    assert partial.read_bytes() == CONTENT
    assert site.ranges == [None, "bytes=1000-", "bytes=1500-"]
    assert any("the connection ended at byte 1000 of 10240; trying again" in x for x in lines)
    assert any("going on at 1.5 kB" in x for x in lines)


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(site, partial):
    site.add("data.bin", CONTENT, cuts=[1000, 500, 500])
    with pytest.raises(TransferError, match=r"ended at byte 2000 of 10240 \(3 attempts\)"):
        bring(site, partial)
    bring(site, partial)
    assert partial.read_bytes() == CONTENT
    assert site.ranges[-1] == "bytes=2000-"


def test_progress_renews_the_patience(site, partial):
    content = CONTENT * 400
    site.add("data.bin", content, cuts=[len(content) // 5] * 4)
    assert len(content) // 5 < 1 << 20 < len(content) // 5 * 2
    bring(site, partial)
    assert partial.read_bytes() == content
    assert len(site.ranges) == 5 > QUICK.tries


def test_a_server_without_ranges_starts_again(site, partial):
    site.add("data.bin", CONTENT, cuts=[1000], ranges=False)
    bring(site, partial)
    assert partial.read_bytes() == CONTENT
    assert site.ranges == [None, "bytes=1000-"]


def test_without_anything_that_identifies_the_file_it_starts_again(site, partial):
    site.add("data.bin", CONTENT, cuts=[1000], tag=False)
    bring(site, partial)
    assert partial.read_bytes() == CONTENT
    assert site.ranges == [None, None]


@pytest.mark.parametrize("honors_if_range", [True, False])
def test_a_file_that_changed_is_not_glued_to_the_old_one(site, partial, honors_if_range):
    site.add("data.bin", CONTENT, cuts=[1000] * 3)
    with pytest.raises(TransferError):
        bring(site, partial)
    changed = CONTENT[::-1] + b"more"
    site.add("data.bin", changed, honors_if_range=honors_if_range)
    bring(site, partial)
    assert partial.read_bytes() == changed
    # One more request finds out where the server does not say it by itself.
    assert len(site.requests) == 3 + (1 if honors_if_range else 2)


def test_a_partial_file_of_unknown_origin_is_not_continued(site, partial):
    partial.write_bytes(b"?" * 1000)
    site.add("data.bin", CONTENT)
    bring(site, partial)
    assert partial.read_bytes() == CONTENT
    assert site.ranges == [None]


def test_a_partial_file_of_another_address_is_not_continued(site, partial):
    site.add("data.bin", CONTENT, cuts=[1000] * 3)
    with pytest.raises(TransferError):
        bring(site, partial)
    site.add("other.bin", CONTENT[::-1])
    bring(site, partial, "other.bin")
    assert partial.read_bytes() == CONTENT[::-1]


def test_a_complete_partial_file_is_not_fetched_again(site, partial):
    site.add("data.bin", CONTENT)
    bring(site, partial)
    bring(site, partial)
    assert len(site.requests) == 1


def test_a_partial_file_beyond_the_end_starts_again(site, partial):
    site.add("data.bin", CONTENT)
    bring(site, partial)
    partial.write_bytes(CONTENT + b"too much")
    bring(site, partial)
    assert partial.read_bytes() == CONTENT


def test_temporary_answers_are_tried_again(site, partial):
    site.add("data.bin", CONTENT, statuses=[503, 429])
    lines = bring(site, partial)
    assert partial.read_bytes() == CONTENT
    assert "the server answers 503 Service Unavailable; trying again" in lines[0]


def test_a_missing_file_is_not_tried_again(site, partial):
    with pytest.raises(TransferError, match="the server answers 404 Not Found"):
        bring(site, partial)
    assert len(site.requests) == 1
    assert not partial.exists()


def test_a_web_page_is_not_a_file(site, partial):
    site.add("data.bin", b"<html>please log in</html>", content_type="text/html; charset=utf-8")
    with pytest.raises(TransferError, match="a web page instead of the file"):
        bring(site, partial)
    assert not partial.exists()


def test_another_size_is_told_before_the_file_is_fetched(site, partial):
    site.add("data.bin", CONTENT)
    with pytest.raises(TransferError, match="has 10240 bytes; expected 10241"):
        bring(site, partial, size=10241)
    assert not partial.exists()


def test_nobody_there_is_told_after_two_attempts(site, partial):
    lines: list[str] = []
    with pytest.raises(TransferError, match=r"no answer: .*refused.* \(2 attempts\)"):
        transfer("http://127.0.0.1:9/x", partial, patience=QUICK, say=lines.append)
    assert len(lines) == 1


def test_a_full_disk_is_told_before_the_file_is_fetched(site, partial, monkeypatch):
    site.add("data.bin", CONTENT)
    usage = type(shutil.disk_usage(partial.parent))(total=20000, used=14880, free=5120)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match=r"not enough space on the disk: 10.2 kB needed, 5.1 kB free"):
        bring(site, partial)
    assert not partial.exists()


def test_discard_leaves_nothing(site, partial):
    site.add("data.bin", CONTENT)
    bring(site, partial)
    discard(partial)
    assert not list(partial.parent.iterdir())
