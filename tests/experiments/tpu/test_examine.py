from __future__ import annotations

import json

import jax
import pytest

from experiments.configs import qm9
from experiments.tpu import examine as examine_module
from experiments.tpu.chips import has_libtpu
from experiments.tpu.compiling import TooLarge
from experiments.tpu.examine import examine, make_task, search_largest
from experiments.tpu.report import largest_to_text, to_text
from experiments.tpu.table import to_markdown
from tests.experiments.tpu.tiny import cpu_topology, make_tiny


def run(config, topology="v5e:1x1"):
    said = []
    task = make_task(config, topology, said.append, atoms=5, edges=20)
    name = "experiments/configs/qm9.py:alpha"
    return task, examine(task, name, {"model.num_layers": 1}), said


@pytest.fixture(scope="module")
def on_cpu():
    """The program of a CPU, read as if it were one of a TPU: all parts meet."""
    with pytest.MonkeyPatch.context() as patch, jax.enable_x64(False):
        patch.setattr(examine_module, "find_topology", lambda _: cpu_topology())
        return run(make_tiny(qm9.get_config("alpha")))[1]


def test_a_report_says_what_a_step_costs(on_cpu):
    assert on_cpu["fits"]
    assert on_cpu["structures_per_chip"] == on_cpu["compiled_batch_size"] == 8
    memory = on_cpu["memory_bytes"]
    assert memory["total"] == (
        memory["arguments"] + memory["outputs"] - memory["aliased"]
        + memory["temporaries"] + memory["program"]
    )  # fmt: skip
    assert memory["aliased"] > 0.9 * memory["outputs"], "the state is not donated"
    assert on_cpu["flops"]["products"] > 1e5
    assert on_cpu["interconnect_bytes"] == 0
    assert on_cpu["roofline_seconds"][on_cpu["roofline_limit"]] > 0
    assert on_cpu["problems"] == []
    assert json.loads(json.dumps(on_cpu)) == on_cpu


def test_the_text_says_that_a_bound_is_no_measurement(on_cpu):
    text = to_text(on_cpu)
    assert "qm9.py:alpha on v5e:1x1, 1 chips" in text
    assert "5 atoms, 20 edges (given)" in text
    assert "not a measurement" in text
    assert "no float64, no gathering, no host transfer" in text


def test_a_step_that_does_not_fit_is_a_result(monkeypatch):
    monkeypatch.setattr(examine_module, "find_topology", lambda _: cpu_topology())
    tried = []

    def compile_nothing(step, quick):
        tried.append(step.structures)
        return TooLarge(needed=max(step.structures * 2**33, 2**35), available=2**34, seconds=1.5)

    monkeypatch.setattr(examine_module, "compile_step", compile_nothing)
    task, report, said = run(make_tiny(qm9.get_config("alpha")))
    report |= search_largest(task, report)
    assert not report["fits"]
    assert report["largest_batch"]["structures"] == 0
    assert tried[:2] == [8, 1]
    assert "with 8 structures on a chip" in said[0]
    text = to_text(report)
    assert "does not fit: needs" in text
    assert "64.00 of 15.75 GiB" in text
    assert "8: 64.00 GiB, too much, 1: 32.00 GiB, too much" in largest_to_text(report)
    assert "**does not fit**" in to_markdown([report])


def test_reports_become_rows_of_a_table(on_cpu):
    header, _, row = to_markdown([on_cpu]).splitlines()
    assert header.count("|") == row.count("|")
    assert row.startswith("| `qm9:alpha`, `model.num_layers=1` | v5e:1x1 | 8 (8) |")


@pytest.mark.slow
@pytest.mark.skipif(not has_libtpu(), reason="libtpu is not installed")
@pytest.mark.parametrize(
    ("mesh", "structures"), [({}, 1), ({"shard_optimizer": True}, 1), ({"edge_parts": 2}, 2)]
)
def test_a_step_is_compiled_for_tpus(mesh, structures, float32_mode):
    config = make_tiny(qm9.get_config("alpha"))
    config.mesh.update(mesh)
    _, report, _ = run(config, "v5e:2x4")
    assert report["problems"] == []
    assert not report["quick"]
    assert report["structures_per_chip"] == structures
    assert report["memory_bytes"]["total"] < report["available_bytes"]
    # The gradient is summed over eight chips, float32, however it is divided.
    gradient = 2 * 7 / 8 * 4 * report["parameters"]
    assert 0.9 * gradient < report["interconnect_bytes"] < 2 * gradient
