"""Initial node features: species, tags, surroundings, forces (SPEC §5, §9)."""

from __future__ import annotations

import math

import numpy as np

from tests.reference.attention import Edges, radial_depthwise, sum_over_edges
from tests.reference.irreps import Irreps, Segment, simplify
from tests.reference.parameters import Scope
from tests.reference.tensor_products import depthwise_irreps, linear
from tests.reference.wigner import spherical_harmonics


def type_embedding(scope: Scope, types: np.ndarray, count: int, irreps: Irreps) -> np.ndarray:
    """Linear map of the one-hot type, `[N] -> [N, row]`; also for tags and for edge attributes."""
    one_hot = np.eye(count)[types]
    return linear(scope.child("atom_type_lin"), one_hot, (Segment(count, 0, 1),), irreps)


def edge_degree_embedding(
    scope: Scope,
    edges: Edges,
    num_nodes: int,
    irreps: Irreps,
    hidden: tuple[int, ...],
    average_degree: float,
) -> np.ndarray:
    """Sum of radially weighted harmonics over the neighbors, `[N, row]`, by sqrt(mean degree)."""
    constant = np.ones((num_nodes, 1))
    nodes = linear(scope.child("exp"), constant, (Segment(1, 0, 1),), irreps)
    product = radial_depthwise(scope, "rad", nodes[edges.senders], edges, irreps, irreps, hidden)
    product_irreps = simplify(depthwise_irreps(irreps, edges.irreps, irreps))
    message = linear(scope.child("proj"), product, product_irreps, irreps)
    return sum_over_edges(message, edges.receivers, num_nodes) / math.sqrt(average_degree)


def force_embedding(
    scope: Scope, forces: np.ndarray, irreps_inputs: Irreps, irreps: Irreps
) -> np.ndarray:
    """Linear map of `Y(F) |F| / sqrt(3)`, `[N, 3] -> [N, row]`."""
    magnitude = np.sqrt((forces * forces).sum(-1, keepdims=True))
    harmonics = spherical_harmonics(forces, max(segment.degree for segment in irreps_inputs))
    return linear(scope, harmonics * magnitude / math.sqrt(3), irreps_inputs, irreps)
