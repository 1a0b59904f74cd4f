"""What is measured of a case, and the tables that show it."""

from __future__ import annotations

import json
import math
import types

import jax
import numpy as np
import pytest

from experiments.benchmarks import growth_points, report, results
from experiments.benchmarks.cases import find_case
from experiments.benchmarks.growth import Point
from experiments.benchmarks.results import memory_numbers, run_cases, share_of_rate
from experiments.benchmarks.timing import Stepper

_TINY = (
    "num_layers=1,num_heads=1,number_of_basis=4,irreps_sh=1x0e+1x1e,irreps_feature=2x0e,"
    "irreps_node_embedding=2x0e+1x1e,irreps_head=2x0e+1x1e,irreps_mlp_mid=2x0e+1x1e,atoms=4"
)
TRAINING = f"qm9_linear,batch_size=2,{_TINY}"
FORWARD = f"qm9_linear_forward,batch_size=2,{_TINY}"
DYNAMICS = f"md17_l2_linear_aspirin_dynamics,{_TINY}"
STEPS = 6


class Watched(Stepper):
    """Remembers what dynamics went through."""

    last: Watched

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.positions, self.updates = [], []
        Watched.last = self

    def step(self):
        before = self.arguments
        super().step()
        if len(before) == 4:
            self.positions.append(np.asarray(before[2]))
            self.updates.append(int(self.arguments[1].updates))


@pytest.fixture(scope="module")
def measured():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "Stepper", Watched)
        patch.setattr(jax, "clear_caches", lambda: None)  # tracing twice takes twice as long
        return run_cases({text: find_case(text) for text in (FORWARD, DYNAMICS)}, STEPS)


@pytest.mark.parametrize("name", [FORWARD, DYNAMICS], ids=["forward", "dynamics"])
def test_all_that_is_wanted_is_there_as_json(measured, name):
    check_fields(json.loads(json.dumps(measured, allow_nan=False))[name])


@pytest.mark.slow
def test_training_is_measured_beside_others():
    texts = (TRAINING, FORWARD, DYNAMICS)
    found = run_cases({text: find_case(text) for text in texts}, 2)
    for text in texts:
        check_fields(found[text])
    assert found[FORWARD]["matrix_gflop"] < found[TRAINING]["matrix_gflop"]
    assert [row[0] for row in rows_of(report.to_text(found), report.RATIOS)] == [
        "(1)",
        "(2)",
        "(3)",
    ]


def check_fields(numbers):
    positive = {
        *("step_seconds", "processor_step_seconds", "structures_per_second", "atoms_per_second"),
        *("compile_seconds_cold", "compile_seconds_cached", "atoms", "edges", "batch_size"),
        *("matrix_gflop", "share_of_matrix_rate", "compiled_matrix_gflop_per_device"),
        *("compiled_elementwise_gflop_per_device", "gigabytes_per_device", "share_of_copy_rate"),
        *("peak_mib", "temporary_mib_per_device", "argument_mib_per_device", "kernels", "devices"),
        *("step_over_matrix_product", "processor_step_over_matrix_product"),
        *("over_first_case", "processor_over_first_case", "rounds_over_first_case"),
    }
    assert positive <= numbers.keys()
    assert all(numbers[key] > 0 for key in positive)
    low, high = numbers["step_seconds_range"]
    assert low <= numbers["step_seconds"] <= high
    low, high = numbers["rounds_over_first_case_range"]
    assert low <= numbers["rounds_over_first_case"] <= high
    assert {"official_over_matrix_product", "sent_bytes_per_device", "kind"} <= numbers.keys()


def test_the_machine_is_described(measured):
    machine = measured["machine"]
    for key in ("matrix_product_seconds", "matrix_gflops_per_second", "copy_gigabytes_per_second"):
        assert machine[key] > 0
    assert machine["devices"] == jax.device_count()
    assert machine["platform"] == jax.default_backend()
    assert machine["peak_process_mib"] > 10


def test_numbers_fit_together(measured):
    numbers, machine = measured[FORWARD], measured["machine"]
    step = numbers["step_seconds"]
    assert numbers["structures_per_second"] == pytest.approx(2 / step)
    assert numbers["atoms_per_second"] == pytest.approx(8 / step)
    product = machine["matrix_product_seconds"]
    assert numbers["step_over_matrix_product"] == pytest.approx(step / product)
    for ratio in ("over_first_case", "processor_over_first_case", "rounds_over_first_case"):
        assert numbers[ratio] == 1
    dynamics = measured[DYNAMICS]
    assert dynamics["devices"] == dynamics["batch_size"] == 1
    assert dynamics["over_first_case"] == pytest.approx(dynamics["step_seconds"] / step)
    processor = dynamics["processor_step_seconds"] / numbers["processor_step_seconds"]
    assert dynamics["processor_over_first_case"] == pytest.approx(processor)


def test_growth_reads_the_numbers(measured):
    row = growth_points.read_row(Point(FORWARD, 4), measured)
    assert all(math.isfinite(value) for value in row.values())


def test_atoms_move_and_neighbors_are_found_anew_in_one_step_of_five(measured):
    dynamics = Watched.last
    assert dynamics.updates == [1, 1, 1, 1, 1, 2, 2]
    moves = np.diff(dynamics.positions, axis=0)
    np.testing.assert_allclose(np.linalg.norm(moves, axis=-1), 0.06, rtol=1e-4)
    found, _ = dynamics.program(*dynamics.arguments)
    assert np.isfinite(found.forces).all()


def test_a_model_that_does_not_know_the_elements_is_named():
    text = "oc20_is2re,preset=qm9"
    with pytest.raises(ValueError, match=f"case='{text}': atom 0 has atomic number 78"):
        run_cases({text: find_case(text)}, 1)


def test_memory_is_that_of_all_devices_where_they_share_it():
    sizes = {"temp": 5, "argument": 4, "output": 3, "alias": 2}
    analysis = types.SimpleNamespace(
        **{f"{kind}_size_in_bytes": mib * 2**20 for kind, mib in sizes.items()}
    )
    assert memory_numbers(analysis, 4, shared=True)["peak_mib"] == 40
    assert memory_numbers(analysis, 4, shared=False)["peak_mib"] == 10
    assert memory_numbers(analysis, 4, shared=True)["temporary_mib_per_device"] == 5
    assert memory_numbers(None, 4, shared=True) == {}


def test_several_accelerators_can_do_more_than_one():
    assert share_of_rate(60.0, 2.0, 100.0, devices=4, shared=True) == pytest.approx(0.3)
    assert share_of_rate(60.0, 2.0, 100.0, devices=4, shared=False) == pytest.approx(0.075)


def test_an_accelerator_says_what_it_has_needed(monkeypatch):
    needed = {"peak_bytes_in_use": 1}
    stepper = types.SimpleNamespace(step=lambda: needed.update(peak_bytes_in_use=7 * 2**20))
    device = types.SimpleNamespace(memory_stats=lambda: needed)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert results._peak_in_use(stepper) == {"peak_in_use_mib_per_device": 7}


# --- Tables ---


def rows_of(text, header):
    """The cells below a header, which has to be there."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    rows = rows[rows.index(list(header)) + 2 :]
    return rows[: next((i for i, row in enumerate(rows) if len(row) < 2), None)]


def test_tables_have_a_line_for_each_case_and_no_empty_cell_but_the_official_one(measured):
    text = report.to_text(measured)
    times, costs, ratios = (
        rows_of(text, header) for header in (report.TIMES, report.COSTS, report.RATIOS)
    )
    for rows in (times, costs, ratios):
        assert [row[0] for row in rows] == ["(1)", "(2)"]
    official = report.TIMES.index("official")
    assert all(cell for row in times for i, cell in enumerate(row) if i != official)
    assert all(cell for row in costs + ratios for cell in row)
    assert ratios[0][1:] == ["1.000", "1.000", "1.000", "1.000-1.000"]
    assert f"(2) {DYNAMICS}" in text
    assert "device(s), chosen for all cases together" in text
    assert "dynamics: " in text


def test_tables_fit_a_terminal(measured):
    named = {"machine": measured["machine"], "md22_AT-AT_batch_4_etc": measured[FORWARD]}
    numbers = dict(measured[FORWARD]) | {
        **{"step_seconds": 12.3456, "step_seconds_range": [11.98765, 123.45678]},
        **{"official_over_matrix_product": 395, "atoms_per_second": 123456.7},
    }
    named["oc20_is2re_dot_product"] = numbers
    text = report.to_text(named)
    assert max(map(len, text.splitlines())) <= 120
    assert [row[0] for row in rows_of(text, report.TIMES)] == list(named)[1:]


def test_a_table_says_what_an_accelerator_has_needed(measured):
    numbers = measured[FORWARD] | {"peak_in_use_mib_per_device": 1234.5}
    machine = measured["machine"] | {"platform": "gpu"}
    text = report.to_text({"machine": machine, "a": numbers, "b": measured[FORWARD]})
    rows = rows_of(text, (*report.COSTS, report.IN_USE))
    assert [row[-1] for row in rows] == ["1,234", ""]
    assert "memory of the program on each device" in text


def test_one_case_has_nothing_to_be_compared_with(measured):
    text = report.to_text({name: measured[name] for name in ("machine", FORWARD)})
    assert "by rounds" not in text
    assert "dynamics: " not in text


def test_what_could_not_be_counted_is_left_empty(measured):
    unknown = {"gigabytes_per_device", "share_of_copy_rate", "peak_mib"}
    numbers = {key: value for key, value in measured[FORWARD].items() if key not in unknown}
    (row,) = rows_of(report.to_text({"machine": measured["machine"], "qm9": numbers}), report.COSTS)
    assert [title for title, cell in zip(report.COSTS, row, strict=True) if not cell] == [
        *("compiled", "GB moved", "peak MiB", "of copy")
    ]
