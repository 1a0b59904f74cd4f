from __future__ import annotations

import importlib
import json
import pathlib
import subprocess

import pytest

from equiformer_jax.training.early_checks import check_configuration
from experiments.tpu import table
from experiments.tpu.chips import split_name
from experiments.tpu.entries import Entry, list_entries
from experiments.tpu.sizes import typical_size
from experiments.tpu.table import compile_entry, read_reports

ENTRY = Entry("v5e-8_tiny", ("--topology=v5e:2x4", "--config=tiny.py"))


def argument_of(entry, flag):
    (value,) = (a.removeprefix(flag) for a in entry.arguments if a.startswith(flag))
    return value


def load_configuration(text):
    path, _, argument = text.partition(":")
    name = ".".join(pathlib.Path(path).with_suffix("").parts)
    return importlib.import_module(name).get_config(argument)


def test_every_entry_names_a_topology_and_a_configuration_of_known_size():
    entries = list_entries()
    assert len({entry.name for entry in entries}) == len(entries) == 12 * 7 + 3
    for entry in entries:
        split_name(argument_of(entry, "--topology="))
    for text in {argument_of(entry, "--config=") for entry in entries}:
        config = load_configuration(text)
        check_configuration(config)
        assert typical_size(config.data).edges > 0


def test_reports_are_read_in_the_order_of_the_entries(tmp_path):
    entries = [Entry(name, ()) for name in ("b", "missing", "a")]
    for name in "ab":
        (tmp_path / f"{name}.json").write_text(json.dumps({"config": name}))
    assert [report["config"] for report in read_reports(entries, tmp_path)] == ["b", "a"]


def test_compiling_says_how_it_ended(tmp_path, monkeypatch, capsys):
    endings = [
        subprocess.CompletedProcess([], 0, "", ""),
        subprocess.CompletedProcess([], 1, "", "ValueError: no such thing"),
    ]
    commands = []

    def run(command, *, timeout, **_):
        commands.append(command)
        if not endings:
            raise subprocess.TimeoutExpired(command, timeout)
        return endings.pop(0)

    monkeypatch.setattr(table.subprocess, "run", run)
    for _ in range(3):
        compile_entry(ENTRY, tmp_path, limit_seconds=7, quick=not endings)
    fine, failed, explained, late = capsys.readouterr().out.splitlines()
    assert fine == f"v5e-8_tiny: {tmp_path}/v5e-8_tiny.json"
    assert (failed, explained) == ("v5e-8_tiny failed:", "ValueError: no such thing")
    assert late == "v5e-8_tiny: not compiled within 7 s"
    assert "--topology=v5e:2x4" in commands[0]
    assert f"--output={tmp_path}/v5e-8_tiny.json" in commands[0]
    assert ["--quick" in command for command in commands] == [False, False, True]


@pytest.mark.parametrize(("known", "quick", "needed"), [
    (None, True, True),
    (False, True, False),
    (False, False, False),
    (True, True, False),
    (True, False, True),
])  # fmt: skip
def test_a_full_report_takes_the_place_of_a_quick_one(tmp_path, known, quick, needed):
    if known is not None:
        (tmp_path / "v5e-8_tiny.json").write_text(json.dumps({"quick": known}))
    assert table.has_report(ENTRY, tmp_path, quick) is not needed
