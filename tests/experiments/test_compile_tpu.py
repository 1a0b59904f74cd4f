"""The program as a person starts it."""

from __future__ import annotations

import pytest

from tests.experiments.test_train_cli import QUICKSTART, run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([QUICKSTART, "--topology=v9z:2x4"], "TopologyError: topology='v9z:2x4'; expected one of"),
        (["--config=experiments/configs/nothing.py", "--topology=v5e:2x4"], "nothing.py"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(arguments, message):
    finished = run("compile_tpu", *arguments)
    assert finished.returncode != 0
    assert message in finished.stderr
