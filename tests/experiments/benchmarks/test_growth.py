from __future__ import annotations

import subprocess

import pytest

from experiments.benchmarks import growth_points
from experiments.benchmarks.cases import find_case
from experiments.benchmarks.growth import AXES, Point
from experiments.benchmarks.growth_points import measure, read_row
from experiments.benchmarks.growth_report import draw, exponents, to_table


def row(size, products, mebibytes):
    return {
        "size": size, "edges": 14 * size, "matrix_gflop": 0.1 * size, "products": products,
        "temporary_mib": mebibytes, "process_mib": 1000.0,
    }  # fmt: skip


ROWS = [row(10, 1.0, 3.0), row(20, 2.0, 12.0), row(80, 8.0, 24.0)]


@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
def test_every_point_is_a_case_and_sizes_grow(axis):
    for point in axis.points:
        case = find_case(point.case)
        assert case.batch_size % point.devices == 0
    sizes = [point.size for point in axis.points]
    assert sizes[0] is None or sizes == sorted(set(sizes))


def test_degrees_and_channels_are_those_of_the_label():
    for point in AXES["lmax"].points:
        assert find_case(point.case).config.irreps_sh.endswith(f"1x{point.size}e")
    for point in AXES["channels"].points:
        assert find_case(point.case).config.irreps_node_embedding.startswith(f"{point.size}x0e")


def test_powers_between_rows():
    assert exponents(ROWS, "products") == pytest.approx([1, 1])
    assert exponents(ROWS, "temporary_mib") == pytest.approx([2, 0.5])


def test_a_table_has_a_line_for_each_row():
    text = to_table(AXES["atoms"], ROWS)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(ROWS)
    assert len({line.count("|") for line in lines}) == 1
    assert lines[3] == "| 20 | 280 | 2.0 | 2.00 | 1.00 | 12 | 2.00 | 1000 |"


def test_edges_stand_once_where_they_are_the_size():
    lines = to_table(AXES["edges"], ROWS).splitlines()
    assert lines[2].startswith("| edges | GFLOP |")
    assert lines[5] == "| 20 | 2.0 | 2.00 | 1.00 | 12 | 2.00 | 1000 |"


def test_a_picture_is_drawn(tmp_path):
    path = tmp_path / "growth.png"
    draw({"atoms": ROWS, "lmax": ROWS}, str(path))
    assert path.read_bytes().startswith(b"\x89PNG")


def test_edges_stand_for_the_size_where_they_grow():
    point = Point("qm9", None, devices=2)
    numbers = {
        "edges": 77, "processor_step_over_matrix_product": 1.5, "matrix_gflop": 2.0,
        "temporary_mib_per_device": 10.0, "compile_seconds_cold": 3.0,
    }  # fmt: skip
    read = read_row(point, {"qm9": numbers, "machine": {"peak_process_mib": 5.0}})
    assert read["size"] == 77
    assert read["temporary_mib"] == 20.0


def test_a_point_that_fails_says_why(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "ValueError: no such thing")
    monkeypatch.setattr(growth_points.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RuntimeError, match="qm9 failed:\nValueError: no such thing"):
        measure(Point("qm9", 1), steps=1)
