"""Whether the files of checkpoints are still what was written, and what becomes of those damaged.

Sizes and SHA-256 digests lie beside the checkpoints, in `checkpoint_digests/<step>.json` of the
workdir. A checkpoint that has none, because the run was killed in the moment between the two, is
opened and read instead.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from equiformer_jax.training.errors import WorkdirError
from equiformer_jax.training.workdir import write_json_atomically

DIRECTORY = "checkpoints"
TRASH = "deleted"  # in `checkpoints`: a checkpoint disappears at once, then its files one by one
DIGESTS = "checkpoint_digests"
DAMAGED = "damaged_checkpoints"
METADATA_FILE = "_CHECKPOINT_METADATA"  # what orbax writes about a checkpoint as a whole
RECORD_ITEM = "record"
PARAMS_ITEM = "params"
TRAINING_ITEM = "training"
AVERAGE_ITEM = "ema_params"
REQUIRED_ITEMS = frozenset({RECORD_ITEM, PARAMS_ITEM, TRAINING_ITEM})

Digests = dict[str, dict[str, Any]]


class CheckpointFiles:
    """The files of all checkpoints of a workdir, beside orbax, which writes and reads them."""

    def __init__(self, workdir: pathlib.Path) -> None:
        """Nothing is read or written yet."""
        self.directory = workdir / DIRECTORY
        self._digests = workdir / DIGESTS
        self._damaged = workdir / DAMAGED

    def path(self, step: int) -> pathlib.Path:
        """Directory of a checkpoint."""
        return self.directory / str(step)

    def steps(self) -> list[int]:
        """Every directory that can be a checkpoint, whole or not; orbax's temporary ones cannot."""
        names = [path.name for path in self.directory.iterdir() if path.is_dir()]
        return sorted(int(name) for name in names if name.isdecimal())

    def seal(self, step: int) -> None:
        """Writes the digests of a checkpoint as it is now, and removes what is left of others.

        Raises:
          WorkdirError: they cannot be written.
        """
        digests = digest_files(self.path(step))
        try:
            self._digests.mkdir(exist_ok=True)
        except OSError as error:
            raise WorkdirError(f"cannot create {self._digests}: {error.strerror}") from error
        write_json_atomically(self._digest_file(step), digests)
        self._forget_all_but(self.steps())
        self._empty_trash()

    def forget(self, step: int) -> None:
        """Removes the digests of a checkpoint that is no more, or will be written anew."""
        self._digest_file(step).unlink(missing_ok=True)

    def find_damage(self, step: int) -> str | None:
        """Compares a checkpoint with its digests; without any, reads all that is in it.

        Returns:
          The first file that is damaged, and how; `None` if the checkpoint is good.

        Raises:
          WorkdirError: this user may not read a file.
        """
        digests = self._read_digests(step)
        if digests is None:
            return find_unreadable_item(self.path(step))
        return find_changed_file(self.path(step), digests)

    def remove_leftovers(self) -> None:
        """Removes what killed saves have left; only for who knows that nobody is saving."""
        for path in self.directory.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path)
        self._empty_trash()

    def set_damaged_aside(self, say: Callable[[str], None]) -> None:
        """Moves damaged checkpoints out of the way, and gives digests to good ones without.

        Args:
          say: takes a line for each damaged checkpoint, and one if no good one is left.

        Raises:
          WorkdirError: this user may not read a file, or not move a checkpoint.
        """
        steps = self.steps()
        self._forget_all_but(steps)
        for step in reversed(steps):
            if (damage := self.find_damage(step)) is not None:
                place = self._move_aside(step, damage)
                say(f"{self.path(step)} is damaged: {damage}; moved to {place}")
            elif self._read_digests(step) is None:
                self.seal(step)
        if steps and not self.steps():
            say(f"no good checkpoint is left in {self.directory}")

    def _move_aside(self, step: int, damage: str) -> pathlib.Path:
        place, copies = self._damaged / str(step), 1
        while place.exists():
            copies += 1
            place = self._damaged / f"{step}-{copies}"
        try:
            self._damaged.mkdir(exist_ok=True)
            self.path(step).rename(place)
        except OSError as error:
            raise WorkdirError(
                f"{self.path(step)} is damaged: {damage}; it cannot be moved to {place}: "
                f"{error.strerror}"
            ) from error
        self.forget(step)
        return place

    def _empty_trash(self) -> None:
        trash = self.directory / TRASH
        if trash.exists():
            shutil.rmtree(trash)

    def _digest_file(self, step: int) -> pathlib.Path:
        return self._digests / f"{step}.json"

    def _read_digests(self, step: int) -> Digests | None:
        """The digests of a checkpoint; `None` where there are none that can be read."""
        try:
            digests = json.loads(self._digest_file(step).read_text(encoding="utf-8"))
            whole = all({"size", "sha256"} <= set(entry) for entry in digests.values())
        except (OSError, ValueError, AttributeError, TypeError):
            return None
        return digests if whole and digests else None

    def _forget_all_but(self, steps: list[int]) -> None:
        kept = {self._digest_file(step) for step in steps}
        for path in self._digests.glob("*"):
            if path not in kept:
                path.unlink(missing_ok=True)


def digest_files(folder: pathlib.Path) -> Digests:
    """Sizes in bytes and SHA-256 digests of all files below a folder, by relative path.

    Raises:
      WorkdirError: this user may not read a file.
      OSError: a file cannot be read for another reason.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": _sha256(path)}
        for path in files
    }


def find_changed_file(folder: pathlib.Path, digests: Mapping[str, Any]) -> str | None:
    """The first file that is not what `digest_files` had found, and how it differs.

    Args:
      folder: of the checkpoint.
      digests: what `digest_files` had returned for it.

    Returns:
      Relative path and reason, or `None`. Files that came in addition do not count.

    Raises:
      WorkdirError: this user may not read a file, which says nothing about damage.
    """
    for name, expected in digests.items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != expected["size"]:
                return f"{name} has {size} bytes, expected {expected['size']}"
            if _sha256(path) != expected["sha256"]:
                return f"{name} has changed since it was written (SHA-256)"
        except (FileNotFoundError, NotADirectoryError):
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return None


def find_unreadable_item(folder: pathlib.Path) -> str | None:
    """Reads every item of a checkpoint.

    This finds files that are missing, cut off or not what their format says; a changed bit in the
    middle of an array can pass.

    Args:
      folder: of the checkpoint.

    Returns:
      The first item that cannot be read, and why; `None` if all can.

    Raises:
      WorkdirError: this user may not read a file.
    """
    try:
        digest_files(folder)  # reads every file once: what is not allowed is told apart from damage
        metadata = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
        items = set(metadata["item_handlers"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{METADATA_FILE} cannot be read: {first_line(error)}"
    if not items >= REQUIRED_ITEMS:
        return f"{METADATA_FILE} has the items {sorted(items)}, expected {sorted(REQUIRED_ITEMS)}"
    for name in sorted(items & (REQUIRED_ITEMS | {AVERAGE_ITEM})):
        try:
            if name == RECORD_ITEM:
                read_json_item(folder / name)
            else:
                _read_arrays(folder / name)
        except Exception as error:  # whatever orbax and tensorstore raise
            return f"{name} cannot be read: {first_line(error)}"
    return None


def read_json_item(folder: pathlib.Path) -> Any:
    """What an item that orbax saved as JSON holds.

    Raises:
      OSError: the file is missing or cannot be read.
      ValueError: it is not JSON.
    """
    return ocp.JsonCheckpointHandler().restore(epath.Path(folder))


def saved_shapes(folder: pathlib.Path) -> Any:
    """Shapes and types of the arrays of an item, as orbax describes them, without reading them."""
    return ocp.StandardCheckpointHandler().metadata(epath.Path(folder)).tree


def _read_arrays(folder: pathlib.Path) -> None:
    """Reads an item's arrays onto one device, whatever devices they were saved from."""
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    template = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
        saved_shapes(folder),
    )
    ocp.StandardCheckpointHandler().restore(
        epath.Path(folder), args=ocp.args.StandardRestore(template)
    )


def _sha256(path: pathlib.Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except PermissionError as error:
        raise WorkdirError(f"cannot read {path}: {error.strerror}") from error


def first_line(error: Exception) -> str:
    """What an error says, without the pages that orbax and tensorstore add."""
    return (str(error).splitlines() or [type(error).__name__])[0]
