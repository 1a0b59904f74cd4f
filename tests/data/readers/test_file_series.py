from __future__ import annotations

import pathlib

from equiformer_jax.data.readers.file_series import FileSeries, natural_order


def test_records_are_counted_through_the_files():
    files = [pathlib.Path(name) for name in "abc"]
    series = FileSeries(files, [2, 0, 3])
    assert len(series) == 5
    places = [(file.name, record) for file, record in map(series.place, range(5))]
    assert places == [("a", 0), ("a", 1), ("c", 0), ("c", 1), ("c", 2)]


def test_numbers_in_names_are_numbers():
    names = ["data.10.lmdb", "data.2.lmdb", "10.extxyz", "9.extxyz", "data.lmdb", "data.02.lmdb"]
    paths = sorted(map(pathlib.Path, names), key=natural_order)
    expected = "9.extxyz 10.extxyz data.02.lmdb data.2.lmdb data.10.lmdb data.lmdb"
    assert [path.name for path in paths] == expected.split()
