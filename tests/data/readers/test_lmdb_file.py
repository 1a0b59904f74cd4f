"""Numbered records of LMDB files; what is wrong with a file is said, and never ends the process."""

from __future__ import annotations

import pathlib
import pickle
import shutil
import subprocess
import sys
import textwrap
import threading

import lmdb
import pytest

from equiformer_jax.data.errors import DataError
from equiformer_jax.data.readers.lmdb_file import LmdbRecords
from tests.data.readers.lmdb_samples import write_lmdb
from tests.paths import REPOSITORY

VALUES = [f"value {i} ".encode() * (1 + 200 * i) for i in range(12)]


@pytest.fixture
def path(tmp_path):
    return write_lmdb(tmp_path / "data.lmdb", VALUES)


def run_script(text: str, *arguments: object) -> None:
    """Runs a script in another process, which must not crash."""
    command = [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"


def test_records_come_in_the_order_of_their_numbers(path):
    records = LmdbRecords(path)
    assert [records.value(i) for i in range(len(records))] == VALUES
    assert records.place(10) == (path, 10)


def test_the_key_length_is_not_a_record(tmp_path):
    assert len(LmdbRecords(write_lmdb(tmp_path / "a.lmdb", VALUES, length=12))) == 12
    assert len(LmdbRecords(write_lmdb(tmp_path / "b.lmdb", VALUES, length=3))) == 3
    values = {"0": b"a", "1": b"b", "metadata": b"c"}
    assert len(LmdbRecords(write_lmdb(tmp_path / "c.lmdb", values))) == 2


def test_shards_follow_one_another_in_natural_order(tmp_path):
    for shard in (0, 2, 10):
        values = [f"{shard}.{i}".encode() for i in range(3)]
        write_lmdb(tmp_path / f"data.{shard}.lmdb", values, length=3)
    records = LmdbRecords(tmp_path)
    assert [file.name for file in records.files] == ["data.0.lmdb", "data.2.lmdb", "data.10.lmdb"]
    expected = [f"{shard}.{i}".encode() for shard in (0, 2, 10) for i in range(3)]
    assert [records.value(i) for i in range(len(records))] == expected
    assert records.place(7) == (tmp_path / "data.10.lmdb", 1)


def test_a_file_may_be_read_by_several_at_once(path, tmp_path):
    link = tmp_path / "link.lmdb"
    link.symlink_to(path)
    first, second, third = LmdbRecords(path), LmdbRecords(path), LmdbRecords(link)
    del first
    assert second.value(3) == third.value(3) == VALUES[3]


def test_threads_read_the_same_file(path):
    records = pickle.loads(pickle.dumps(LmdbRecords(path)))
    wrong = []

    def read():
        for _ in range(20):
            wrong.extend(i for i, value in enumerate(VALUES) if records.value(i) != value)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_file_is_closed_with_its_last_reader(path):
    records = LmdbRecords(path)
    records.value(0)
    del records
    write_lmdb(path, {"12": b"new"})  # LMDB refuses to open a file twice
    assert LmdbRecords(path).value(12) == b"new"


def test_records_survive_pickling(path):
    records = LmdbRecords(path)
    records.value(0)
    content = pickle.dumps(records)
    del records
    again = pickle.loads(content)
    assert len(again) == 12 and again.value(11) == VALUES[11]


def test_forked_processes_open_the_file_themselves(path):
    script = """
        import os, sys
        from equiformer_jax.data.readers.lmdb_file import LmdbRecords

        records, others = LmdbRecords(sys.argv[1]), LmdbRecords(sys.argv[1])
        expected = [records.value(i) for i in range(12)]
        inherited = records._environment(records.files[0])
        children = []
        for _ in range(3):
            child = os.fork()
            if not child:
                good = [others.value(i) for i in range(12)] == expected
                good &= [records.value(i) for i in range(12)] == expected
                good &= records._environment(records.files[0]) is not inherited
                os._exit(0 if good else 1)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert codes == [0, 0, 0], codes
        assert [records.value(i) for i in range(12)] == expected
    """
    run_script(script, path)


def test_no_truncation_crashes_the_process(path, tmp_path):
    script = """
        import pathlib, sys
        from equiformer_jax.data.errors import DataError
        from equiformer_jax.data.readers.lmdb_file import LmdbRecords

        content = pathlib.Path(sys.argv[1]).read_bytes()
        lengths = [*range(0, len(content), 1000), *range(0, len(content), 4096), len(content) - 1]
        for length in lengths:
            path = pathlib.Path(sys.argv[2]) / f"{length}.lmdb"
            path.write_bytes(content[:length])
            try:
                LmdbRecords(path)
            except DataError as error:
                assert str(path) in str(error), error
            else:
                raise SystemExit(f"{length} bytes were taken for a whole file")
    """
    run_script(script, path, tmp_path)


def test_a_truncated_file_says_how_much_is_missing(path, tmp_path):
    short = tmp_path / "short.lmdb"
    content = path.read_bytes()
    short.write_bytes(content[:-5000])
    expected = rf"short.lmdb: truncated: it has {len(content) - 5000} bytes of the {len(content)}"
    with pytest.raises(DataError, match=expected):
        LmdbRecords(short)


def test_a_file_that_is_cut_after_it_was_pickled_is_refused(path):
    content = pickle.dumps(LmdbRecords(path))
    path.write_bytes(path.read_bytes()[:-4096])
    with pytest.raises(DataError, match="truncated"):
        pickle.loads(content).value(11)


OTHER_FILES = {
    "empty": (b"", "an empty file"),
    "gzip": (b"\x1f\x8b" + bytes(600), "a gzip archive"),
    "zeros": (bytes(9000), "a file of zeros"),
    "html": (b"<!DOCTYPE html><html>404</html>", "a web page"),
    "noise": (b"\x01\xff\x02" * 300, "a file of an unknown format"),
    "of a 32-bit machine": (bytes(12) + b"\xde\xc0\xef\xbe" + bytes(600), "a file of an unknown"),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_what_is_no_lmdb_file_is_recognized(name, tmp_path):
    content, kind = OTHER_FILES[name]
    file = tmp_path / "data.lmdb"
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"data.lmdb: expected an LMDB file .*; this is {kind}"):
        LmdbRecords(file)


def test_nothing_at_the_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.lmdb: no such LMDB file or folder"):
        LmdbRecords(tmp_path / "absent.lmdb")
    with pytest.raises(DataError, match="no files called .*lmdb in this folder"):
        LmdbRecords(tmp_path)


def test_a_gap_is_named(tmp_path):
    gap = {str(i): b"x" for i in (0, 1, 2, 4, 5)}
    file = write_lmdb(tmp_path / "gap.lmdb", gap, length=6)
    records = LmdbRecords(file)
    assert records.value(2) == b"x"
    with pytest.raises(DataError, match=r"gap.lmdb: record 3: missing from the file"):
        records.value(3)
    keys = dict.fromkeys(("0", "1", "2", "7", "8"), b"x")
    with pytest.raises(DataError, match="record 4: missing from the file, which should have 5"):
        LmdbRecords(write_lmdb(tmp_path / "b.lmdb", keys))
    with pytest.raises(DataError, match="record 0: missing from the file, which should have 1"):
        LmdbRecords(write_lmdb(tmp_path / "c.lmdb", {"1": b"x"}))


def test_a_file_without_records(tmp_path):
    for values, length in (({}, None), ({"a": b""}, None), ({}, 0)):
        file = write_lmdb(tmp_path / f"none{len(values)}{length}.lmdb", values, length=length)
        with pytest.raises(DataError, match="it holds no records"):
            LmdbRecords(file)


@pytest.mark.parametrize("length", ["12", -1, 2.0, True, 2**70, [12], b"12"])
def test_a_length_that_is_no_number_of_records(tmp_path, length):
    file = write_lmdb(tmp_path / "data.lmdb", VALUES, length=length)
    with pytest.raises(DataError, match="data.lmdb: 'length': expected the number of records"):
        LmdbRecords(file)


def test_a_length_that_would_run_code_is_refused(tmp_path):
    canary = tmp_path / "canary"
    bad = b"cposix\nsystem\n(X" + len(f"touch {canary}").to_bytes(4, "little")
    bad += f"touch {canary}".encode() + b"tR."
    file = write_lmdb(tmp_path / "data.lmdb", {"0": b"x", "length": b"\x80\x02" + bad})
    with pytest.raises(DataError, match=r"'length': the pickle asks for posix\.system"):
        LmdbRecords(file)
    assert not canary.exists()


def test_a_damaged_page_is_an_error_of_the_file(path):
    content = bytearray(path.read_bytes())
    page_size = 4096
    for start in range(2 * page_size, len(content), page_size):
        if content[start + 10] & 0x03:  # a page of keys
            content[start + 10] = 0
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"data.lmdb: .*(damaged|cannot be read): .*MDB_"):
        LmdbRecords(path)


def test_a_file_that_somebody_else_has_open(path):
    with (
        lmdb.open(str(path), subdir=False, readonly=True, lock=False),
        pytest.raises(DataError, match=r"data.lmdb: LMDB cannot open it: .*already open"),
    ):
        LmdbRecords(path)


def test_the_fingerprint_follows_the_files(path, tmp_path):
    records = LmdbRecords(path)
    before = records.fingerprint
    assert LmdbRecords(path).fingerprint == before
    assert pickle.loads(pickle.dumps(records)).fingerprint == before
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(path, folder / "data.lmdb")
    assert LmdbRecords(folder).fingerprint != before
    del records
    write_lmdb(path, {"12": b"new"})
    assert LmdbRecords(pathlib.Path(path)).fingerprint != before
