r"""Programs that run as several processes, on one host or on many, and the flags that say so.

On a TPU pod and under SLURM, where each process finds out its place by itself:

    python -m experiments.train --config=CONFIG --workdir=DIR --distributed

Elsewhere each is told, here the second of two:

    python -m experiments.train --config=CONFIG --workdir=DIR \
        --coordinator_address=HOST:PORT --num_processes=2 --process_id=1

The first process prints on stdout and writes for all. Where another one ends before the run has,
all end, each with a line on which one and why; the same command on all hosts goes on from the last
checkpoint. Where a host does not answer any more, without its connections being closed, the runtime
of jax ends the others after `--host_timeout` seconds, with a message of its own.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import jax
from absl import flags

from equiformer_jax.data.processes import exchange
from equiformer_jax.training.errors import (
    RunError,
    RunInterruptedError,
    TrainingDivergedError,
)
from equiformer_jax.training.progress import say
from experiments.common import explain, status_of
from experiments.devices import use_all_cores
from experiments.host_watch import SECONDS_OF_GRACE, HostWatch

_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Run as one of several processes that a TPU pod or SLURM has started."
)
_ADDRESS = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of the first of several processes; the port is free."
)
_COUNT = flags.DEFINE_integer("num_processes", None, "How many processes there are.")
_PROCESS = flags.DEFINE_integer("process_id", None, "Which one this is, from 0.")
_TIMEOUT = flags.DEFINE_integer(
    "host_timeout", 60, "Seconds without a sign of life after which a host counts as lost.", 5
)

# Errors that come up in all processes after the same step.
_OF_ALL = (RunInterruptedError, TrainingDivergedError)
# In this time it becomes known whether another process is the reason for an error.
_SECONDS_FOR_THE_REASON = 2 * SECONDS_OF_GRACE


@contextlib.contextmanager
def joined_hosts(batch_size: int, edge_parts: int = 1) -> Iterator[None]:
    """Makes this process one of several, if the flags say so, for as long as the block runs.

    An error in the block ends the program with its message, in all processes. To be entered before
    jax starts its backends.

    Args:
      batch_size: structures in a step, to choose the number of virtual devices where there is no
        accelerator (`devices.use_all_cores`).
      edge_parts: devices that share the edges of each part of a batch, for the same.

    Raises:
      ValueError: the flags contradict each other; names them.
      RunError: the processes do not find each other.
    """
    arguments = _arguments()
    if arguments is None:
        use_all_cores(batch_size, edge_parts)
        yield
        return
    process = arguments.get("process_id")
    share = batch_size // arguments.get("num_processes", 1)
    use_all_cores(share, edge_parts, say=(lambda line: None) if process else print)
    _join(arguments)
    watch = None
    try:
        watch = _start_watch()
        yield
        if watch is not None:
            watch.finish()
    except BaseException as error:
        _end(error, watch)
    jax.distributed.shutdown()


def _arguments() -> dict[str, Any] | None:
    """What `jax.distributed.initialize` needs to be told; `None` for a program of one process."""
    flag_values = (_ADDRESS, _COUNT, _PROCESS)
    given: dict[str, Any] = {flag.name: flag.value for flag in flag_values}
    lacking = [f"--{name}" for name, value in given.items() if value is None]
    if _DISTRIBUTED.value:
        if len(lacking) < len(given):
            raise ValueError("--distributed finds out the other flags by itself; leave them out")
        return {}
    if len(lacking) == len(given):
        return None
    if lacking:
        raise ValueError(f"{', '.join(lacking)}: needed to run as one of several processes")
    host, _, port = given["coordinator_address"].rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"--coordinator_address={_ADDRESS.value}; expected HOST:PORT")
    if not 0 <= given["process_id"] < given["num_processes"]:
        raise ValueError(
            f"--process_id={_PROCESS.value}; expected 0 to {given['num_processes'] - 1}, one less "
            "than --num_processes"
        )
    return given


def _join(arguments: dict[str, Any]) -> None:
    # It would keep SIGTERM from ending the program, from here on.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **arguments,
            heartbeat_timeout_seconds=_TIMEOUT.value,
            shutdown_timeout_seconds=_TIMEOUT.value,
        )
    except (RuntimeError, ValueError) as error:
        where = f"at {_ADDRESS.value}" if arguments else "in the environment of a TPU pod or SLURM"
        raise RunError(
            f"the processes of this run do not find each other {where}: {error}"
        ) from error


def _start_watch() -> HostWatch | None:
    watch, problem = None, None
    try:
        watch = HostWatch(jax.process_index(), _first_host(), _give_up)
    except OSError as error:
        problem = f"{error}"
    problems = [text for text in exchange(problem) if text is not None]
    if not problems:
        return watch
    say(
        f"the processes cannot watch each other ({problems[0]}); one that has ended is noticed "
        f"after {_TIMEOUT.value} s"
    )
    if watch is not None:
        watch.ignore_losses()
    return None


def _first_host() -> str | None:
    """Where jax itself reaches the first process, which its own host name need not say.

    On a TPU pod that comes from the metadata of the machines, under SLURM from the list of nodes.

    Returns:
      A name or an address; `None` where this version of jax does not tell.
    """
    address = _ADDRESS.value
    if address is None:
        with contextlib.suppress(ImportError, AttributeError):  # there is no public name for it
            from jax._src.distributed import global_state

            address = global_state.coordinator_address
    return address and address.rpartition(":")[0].strip("[]")


def _give_up(what_happened: str) -> NoReturn:
    """Ends this process while its main thread waits for devices that will never answer."""
    _print_error(
        f"{what_happened}. Start all processes again with the same command: the run goes on from "
        "its last checkpoint"
    )
    os._exit(1)


def _end(error: BaseException, watch: HostWatch | None) -> NoReturn:
    """Ends this process after an error: with the others where all have it; else they are told."""
    if watch is not None and not isinstance(error, _OF_ALL):
        # It may follow from the end of another process, and comes as an error of any type then. If
        # it does, the watch ends this one here, with the reason.
        time.sleep(_SECONDS_FOR_THE_REASON)
    _print_error(explain(error))
    status = status_of(error)
    if isinstance(error, _OF_ALL):
        if watch is not None:
            watch.finish()
        jax.distributed.shutdown()
    elif watch is not None:
        watch.fail(f"{type(error).__name__}: {error}".splitlines()[0])
    os._exit(status)


def _print_error(text: str) -> None:
    sys.stdout.flush()
    print(f"process {jax.process_index()}: {text}", file=sys.stderr, flush=True)
