"""Which products of a depthwise tensor product exist, and in which order their weights are kept.

The official release orders weights by its loops (input segment, harmonic, output degree). This
package keeps them grouped by output irrep and, within a group, even paths by ascending and then odd
paths by descending input degree. An order m then needs input degrees of at least m, which is one
contiguous range of every group: no weight is ever gathered at run time. `weight_order` and
`row_orders` translate checkpoints.
"""

from __future__ import annotations

import dataclasses
import functools

import e3nn_jax as e3nn
import numpy as np

from equiformer_jax.ops.irreps import sort_even_first


@dataclasses.dataclass(frozen=True)
class Path:
    """One product `segment x harmonic -> irrep`, on `mul` channels.

    Attributes:
      segment: index of the input segment.
      mul: its multiplicity; a depthwise product has one weight per channel.
      degrees: degrees of input, harmonic and output.
      official_start: where its weights start in the official flat weight vector.
    """

    segment: int
    mul: int
    degrees: tuple[int, int, int]
    official_start: int

    @property
    def is_even(self) -> bool:
        """Whether the degrees add up to an even number: orders are kept, not mirrored."""
        return sum(self.degrees) % 2 == 0


@dataclasses.dataclass(frozen=True)
class DepthwisePaths:
    """All paths of a depthwise tensor product (specification section 2.3).

    Attributes:
      irreps_in: irreps of the node features.
      irreps_out: irreps of the product, merged and sorted; one group of paths each.
      groups: the paths that end in each output irrep, in this package's order.
    """

    irreps_in: e3nn.Irreps
    irreps_out: e3nn.Irreps
    groups: tuple[tuple[Path, ...], ...]

    @property
    def weight_numel(self) -> int:
        """Number of weights per edge."""
        return self.irreps_out.num_irreps

    @property
    def group_slices(self) -> tuple[slice, ...]:
        """Where each group's weights lie in this package's weight vector."""
        stops = np.cumsum([mul for mul, _ in self.irreps_out])
        return tuple(
            slice(stop - mul, stop) for stop, (mul, _) in zip(stops, self.irreps_out, strict=True)
        )

    def weight_order(self) -> np.ndarray:
        """`[weight_numel]`: the official index of each of our weights."""
        return np.concatenate([_channels(path) for group in self.groups for path in group])

    def row_orders(self) -> tuple[np.ndarray, ...]:
        """Per output irrep, the official row of each of our rows in the linear map that follows."""
        orders = []
        for group in self.groups:
            official = np.concatenate([_channels(path) for path in group])
            orders.append(np.argsort(np.argsort(official)))
        return tuple(orders)


def _channels(path: Path) -> np.ndarray:
    return path.official_start + np.arange(path.mul)


@functools.cache
def depthwise_paths(irreps_in: str, irreps_sh: str, irreps_filter: str) -> DepthwisePaths:
    """Enumerates the paths whose output occurs in the filter or is an even scalar.

    Args:
      irreps_in: node features, canonical.
      irreps_sh: spherical harmonics of the edges.
      irreps_filter: irreps that are wanted.
    """
    source, harmonics = e3nn.Irreps(irreps_in), e3nn.Irreps(irreps_sh)
    wanted = {ir for _, ir in e3nn.Irreps(irreps_filter)} | {e3nn.Irrep("0e")}
    groups: dict[e3nn.Irrep, list[Path]] = {}
    start = 0
    for segment, (mul, ir_in) in enumerate(source):
        for _, ir_sh in harmonics:
            for ir_out in sorted(ir_in * ir_sh, key=lambda ir: ir.l):
                if ir_out in wanted:
                    degrees = (ir_in.l, ir_sh.l, ir_out.l)
                    groups.setdefault(ir_out, []).append(Path(segment, mul, degrees, start))
                    start += mul
    sizes = [(sum(p.mul for p in paths), ir) for ir, paths in groups.items()]
    irreps_out = sort_even_first(e3nn.Irreps(sizes))
    ordered = tuple(tuple(sorted(groups[ir], key=_path_order)) for _, ir in irreps_out)
    return DepthwisePaths(source, irreps_out, ordered)


def _path_order(path: Path) -> tuple[bool, int, int]:
    # Even paths climb in input degree and odd ones descend, so that `degree >= m` is one range.
    sign = 1 if path.is_even else -1
    return (not path.is_even, sign * path.degrees[0], path.official_start)
