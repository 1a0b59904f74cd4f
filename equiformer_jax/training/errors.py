"""What can go wrong with a run, in words for the person who started it."""

from __future__ import annotations


class RunError(Exception):
    """A run cannot start or go on; the message says why and what to do."""


class WorkdirError(RunError):
    """The run's directory cannot be written, or holds nothing to read."""


class CheckpointMismatchError(RunError, ValueError):
    """A checkpoint was written by a run with another configuration."""


class CheckpointFormatError(RunError, ValueError):
    """A checkpoint was written in a format that this version does not read."""


class CheckpointDamagedError(RunError):
    """Files of a checkpoint are missing or changed; the message names the first of them."""


class MissingAverageError(RunError, ValueError):
    """The averaged parameters are asked for, of a run that keeps no average."""


class InitialWeightsError(RunError, ValueError):
    """The weights to start from cannot be read or do not fit; names every parameter."""


class TrainingDivergedError(RunError):
    """The loss is not a finite number any more."""


class RunInterruptedError(RunError):
    """The process was asked to end; the run is saved and can go on."""
