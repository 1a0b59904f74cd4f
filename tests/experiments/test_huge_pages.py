"""Programs on CPUs start once more to get memory in huge pages, and say so."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest

from experiments import accelerators, huge_pages

HUGE = "glibc.malloc.hugetlb=1"


class RestartedError(Exception):
    pass


@pytest.fixture
def starting(monkeypatch, tmp_path):
    """A machine that gives huge pages on request, as `python -m experiments.train` starts."""
    setting = tmp_path / "enabled"
    setting.write_text("always [madvise] never\n")

    def execve(path, arguments, environment):
        raise RestartedError(path, arguments, environment)

    monkeypatch.setattr(huge_pages, "_SYSTEM_SETTING", setting)
    monkeypatch.setattr(accelerators.glob, "glob", lambda _: [])
    monkeypatch.setattr(os, "confstr", lambda _: "glibc 2.36")
    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(sys, "argv", ["-m", "--workdir=w"])
    command = ["python", "-u", "-m", "experiments.train", "--workdir=w"]
    monkeypatch.setattr(sys, "orig_argv", command)
    return monkeypatch


def test_the_same_command_starts_with_huge_pages_and_that_is_said(starting, capsys):
    with pytest.raises(RestartedError) as caught:
        huge_pages.restart_with_huge_pages()
    path, arguments, environment = caught.value.args
    assert path == sys.executable
    assert arguments == [sys.executable, "-u", "-m", "experiments.train", "--workdir=w"]
    assert environment == {**os.environ, "GLIBC_TUNABLES": HUGE}
    assert f"set GLIBC_TUNABLES={HUGE!r}" in capsys.readouterr().out


def test_other_tunables_stay(starting):
    starting.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")
    with pytest.raises(RestartedError) as caught:
        huge_pages.restart_with_huge_pages()
    assert caught.value.args[2]["GLIBC_TUNABLES"] == f"glibc.malloc.arena_max=2:{HUGE}"


def _with_accelerator(starting):
    starting.setattr(accelerators.glob, "glob", lambda pattern: [pattern])


def _asked_for_a_tpu(starting):
    starting.setenv("JAX_PLATFORMS", "tpu")


def _set_by_the_user(starting):
    starting.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")


def _given_to_all(starting):
    huge_pages._SYSTEM_SETTING.write_text("[always] madvise never\n")


def _unknown_to_the_system(starting):
    huge_pages._SYSTEM_SETTING.unlink()


def _old_library(starting):
    starting.setattr(os, "confstr", lambda _: "glibc 2.31")


def _other_library(starting):
    starting.setattr(os, "confstr", lambda _: None)


def _imported_by_another_program(starting):
    starting.setattr(sys, "argv", ["notebook.py"])


def _program_without_steps(starting):
    starting.setattr(sys, "orig_argv", ["python", "-m", "experiments.inspect_data"])


def _another_module(starting):
    starting.setattr(sys, "orig_argv", ["python", "-m", "pytest", "experiments.train"])


@pytest.mark.parametrize(
    "change",
    [
        _with_accelerator,
        _asked_for_a_tpu,
        _set_by_the_user,
        _given_to_all,
        _unknown_to_the_system,
        _old_library,
        _other_library,
        _imported_by_another_program,
        _program_without_steps,
        _another_module,
    ],
)
def test_else_nothing_happens(starting, change, capsys):
    change(starting)
    huge_pages.restart_with_huge_pages()
    assert not capsys.readouterr().out


def test_the_programs_exist():
    assert all(importlib.util.find_spec(name) for name in huge_pages.PROGRAMS)
