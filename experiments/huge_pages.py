"""Gives programs that compute on CPUs memory in huge pages.

XLA takes the memory of a step from the system and gives it back at its end. In pages of 4 KiB, the
system spends a sixth of the processor time of an `md17_l2` training step on handing them out
(docs/performance.md). The C library asks for pages of 2 MiB where a variable of the environment
says so, which it reads when a process starts: so the process starts once more. Imports nothing
large, as it runs before anything else.
"""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Mapping

from experiments.accelerators import cpu_only

PROGRAMS = frozenset(
    f"experiments.{name}" for name in ("benchmark", "evaluate", "predict", "train")
)

VARIABLE, _TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
# Holds the number of the process that has started once more, which keeps its number.
_MARK = "EQUIFORMER_JAX_RESTARTED"
_SYSTEM_SETTING = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
_OLDEST_LIBRARY = (2, 35)  # that knows the tunable


def restart_with_huge_pages() -> None:
    """Replaces this process by one with huge pages, if it is one of `PROGRAMS` and lacks them.

    Nothing happens where there is an accelerator, where the system or the C library has no huge
    pages for those who ask, or where `GLIBC_TUNABLES` already says what to do. What is set is said
    on stderr. Processes that this one starts inherit it.
    """
    if starting_program(sys.argv, sys.orig_argv) not in PROGRAMS or not sys.executable:
        return
    value = tunables_with_huge_pages(os.environ)
    if value is None or not cpu_only() or not _on_request():
        return
    # Something may take the variable away on the way here: not a second time, then.
    process = str(os.getpid())
    if os.environ.get(_MARK) == process:
        return
    print(
        f"no accelerator found: set {VARIABLE}={value!r} (memory in huge pages)",
        file=sys.stderr,
        flush=True,
    )
    # It knows nothing yet: no flag is read, no file open, no thread started.
    environment = {**os.environ, VARIABLE: value, _MARK: process}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def starting_program(arguments: list[str], original: list[str]) -> str | None:
    """The module that `python -m` is about to run, while its package is being imported.

    Args:
      arguments: `sys.argv`: what Python calls `-m` then, and the arguments of the module.
      original: `sys.orig_argv`, which ends in the module and the same arguments.
    """
    if arguments[:1] != ["-m"] or len(original) <= len(arguments):
        return None
    return original[-len(arguments)].removeprefix("-m")


def tunables_with_huge_pages(environment: Mapping[str, str]) -> str | None:
    """What to set `GLIBC_TUNABLES` to; `None` where it says already what to do about huge pages."""
    present = environment.get(VARIABLE, "")
    if _TUNABLE in present:
        return None
    return ":".join(filter(None, [present, f"{_TUNABLE}=1"]))


def _on_request() -> bool:
    """Whether this system and its C library give huge pages to those who ask, and to no others."""
    try:
        on_request = "[madvise]" in _SYSTEM_SETTING.read_text("ascii")
        library, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        numbers = tuple(int(part) for part in version.split(".")[:2])
    except (OSError, ValueError, AttributeError):  # not Linux, not the GNU library
        return False
    return on_request and library == "glibc" and numbers >= _OLDEST_LIBRARY
