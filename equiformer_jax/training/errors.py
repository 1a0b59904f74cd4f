"""What can go wrong with a run, in words for the person who started it."""

from __future__ import annotations


class RunError(Exception):
    """A run cannot start or go on; the message says why and what to do."""


class WorkdirError(RunError):
    """The run's directory cannot be written, or holds nothing to read."""


class CheckpointMismatchError(RunError, ValueError):
    """A checkpoint was written by a run with another configuration."""


class TrainingDivergedError(RunError):
    """The loss is not a finite number any more."""
