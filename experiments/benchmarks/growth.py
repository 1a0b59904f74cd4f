"""Along what a cost is followed: series of benchmark cases that differ in one thing."""

from __future__ import annotations

from typing import NamedTuple

_FORCES, _TRAIN = "md17_l2_aspirin_forces_batch_1", "md17_l2_aspirin_batch_1"
_ATOMS = (21, 60, 125, 250, 500, 1000)
_RADII = (3, 4, 5, 6, 7)
_CHANNELS = (32, 64, 128, 256)
_DEVICES = (1, 2, 4, 8)


class Point(NamedTuple):
    """One measurement.

    Attributes:
      case: for `experiments.benchmark`.
      size: along the axis; the edges of the case if `None`.
      devices: virtual ones.
    """

    case: str
    size: int | None
    devices: int = 1


class Axis(NamedTuple):
    """A series of measurements.

    Attributes:
      title: of what is computed.
      label: of the size that grows.
      points: from small to large.
    """

    title: str
    label: str
    points: tuple[Point, ...]


def _with_irreps(channels: list[int]) -> str:
    """Fields of a model with so many channels of degree 0, 1 and so on."""

    def irreps(factor: float) -> str:
        return "+".join(f"{int(factor * n)}x{degree}e" for degree, n in enumerate(channels))

    harmonics = "+".join(f"1x{degree}e" for degree in range(len(channels)))
    return (
        f"irreps_node_embedding={irreps(1)},irreps_sh={harmonics},"
        f"irreps_head={irreps(0.25)},irreps_mlp_mid={irreps(3)}"
    )


AXES = {
    "atoms": Axis(
        "energy and forces of one chain, md17_l2",
        "atoms",
        tuple(Point(f"{_FORCES},atoms={n}", n) for n in _ATOMS),
    ),
    "atoms_training": Axis(
        "training step of one chain, md17_l2, edges in blocks of 512",
        "atoms",
        tuple(Point(f"{_TRAIN},atoms={n},edge_block_size=512", n) for n in _ATOMS),
    ),
    "edges": Axis(
        "energy and forces of a chain of 125 atoms, cutoffs of 3 to 7 Å",
        "edges",
        tuple(Point(f"{_FORCES},atoms=125,max_radius={r}", None) for r in _RADII),
    ),
    "lmax": Axis(
        "energy and forces of eight molecules, 64 channels of each degree",
        "largest degree",
        tuple(
            Point(f"{_FORCES},batch_size=8,{_with_irreps([64] * (degree + 1))}", degree)
            for degree in (1, 2, 3, 4)
        ),
    ),
    "channels": Axis(
        "energy and forces of eight molecules, lmax 2",
        "scalar channels",
        tuple(
            Point(f"{_FORCES},batch_size=8,{_with_irreps([n, n // 2, n // 4])}", n)
            for n in _CHANNELS
        ),
    ),
    "devices": Axis(
        "training step, one molecule on each virtual device",
        "devices",
        tuple(Point(f"md17_l2_aspirin,batch_size={n}", n, n) for n in _DEVICES),
    ),
}
