r"""Predicts structures with a trained model.

    python -m experiments.predict --checkpoint=runs/quickstart --input=in.extxyz --output=out.extxyz

The input may be of any format that ASE reads. The output is extended XYZ, with the predictions
under the standard names and the labels of the input as `reference_...`, or an `.npz` file of flat
arrays (`equiformer_jax.inference.predictions`). Where the model's label is not an energy, as that
of most QM9 targets, it stands under `energy` all the same, in its own unit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import jax
from absl import app, flags

from equiformer_jax.data.readers.ase_files import read_ase
from equiformer_jax.data.readers.label_keys import LabelKeys
from equiformer_jax.inference.loading import load
from equiformer_jax.inference.potential import MAX_EDGES_PER_BATCH
from equiformer_jax.inference.predictions import write_predictions
from equiformer_jax.training.progress import say
from experiments.common import checked_output, program, run

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Workdir of a run, or one of its checkpoints.", required=True
)
_INPUT = flags.DEFINE_string("input", None, "File of structures.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "File to write: .extxyz, .xyz, .npz.", required=True)
_STEP = flags.DEFINE_string(
    "checkpoint_step", "best", "Which checkpoint: best, latest, or a number of training steps."
)
_AVERAGE = flags.DEFINE_bool("average", False, "Take the moving average of the weights.")
_REFERENCES = flags.DEFINE_bool(
    "references", True, "Keep the labels of the input; else they are not even read."
)
_MAX_EDGES = flags.DEFINE_integer(
    "max_edges_per_batch", MAX_EDGES_PER_BATCH, "Bounds the memory that a batch needs.", 1
)

_NO_LABELS = LabelKeys(
    energy=None, forces=None, stress=None, relaxed_positions=None, relaxed_energy=None
)


@program
def main(arguments: Sequence[str]) -> None:
    """Loads, predicts, writes."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments {arguments[1:]}")
    output = checked_output(_OUTPUT.value)
    structures = read_ase(_INPUT.value, None if _REFERENCES.value else _NO_LABELS)
    say(f"{len(structures):,} structures in {_INPUT.value}")
    step = _STEP.value
    potential = load(
        _CHECKPOINT.value,
        int(step) if step.isdecimal() else step,
        _AVERAGE.value,
        max_edges_per_batch=_MAX_EDGES.value,
        say=say,
    )
    say(f"device: {jax.devices()[0].device_kind}")
    say(f"predicting: {potential.describe()}")

    start = time.perf_counter()
    write_predictions(output, structures, potential.stream(structures))
    seconds = time.perf_counter() - start
    computing = max(seconds - potential.compile_seconds, 1e-9)
    say(
        f"predicted in {seconds:.1f} s, {potential.compile_seconds:.1f} s of it compiling; "
        f"{len(structures) / computing:,.1f} structures/s"
    )
    say(f"written:\n  {output}")


if __name__ == "__main__":
    run(main)
