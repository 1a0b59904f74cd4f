"""Programs on CPUs start once more to get memory in huge pages, and say so."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from experiments import accelerators, huge_pages
from tests.paths import REPOSITORY

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
    assert environment["GLIBC_TUNABLES"] == HUGE
    assert environment.items() >= os.environ.items()
    assert f"set GLIBC_TUNABLES={HUGE!r}" in capsys.readouterr().err


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
    assert capsys.readouterr() == ("", "")


def test_a_variable_that_does_not_arrive_is_not_sent_again(starting):
    with pytest.raises(RestartedError) as caught:
        huge_pages.restart_with_huge_pages()
    for name, value in caught.value.args[2].items():
        if name != "GLIBC_TUNABLES":
            starting.setenv(name, value)
    huge_pages.restart_with_huge_pages()


@pytest.mark.parametrize("start", [["-m", "folder.run"], ["-um", "folder.run"], ["-mfolder.run"]])
def test_a_package_knows_which_of_its_programs_is_starting(start, tmp_path):
    package = tmp_path / "folder"
    package.mkdir()
    (package / "run.py").write_text("")
    (package / "__init__.py").write_text(
        f"""import sys
sys.path.append({str(REPOSITORY)!r})
from experiments.huge_pages import starting_program
print(starting_program(sys.argv, sys.orig_argv))
"""
    )
    command = [sys.executable, *start, "--flag=folder.other", "-m"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout == "folder.run\n"


def test_the_programs_exist():
    assert all(importlib.util.find_spec(name) for name in huge_pages.PROGRAMS)
