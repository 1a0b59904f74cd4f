"""Chooses budgets before training, from the sizes of the data themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from equiformer_jax.data.budgets import Budget, largest_parts, rounded_budget
from equiformer_jax.data.planning import GraphSizes, plan_epoch, require_positive, shortest_window

# A further budget is a further compilation: it must save at least this share of the slots.
_WORTHWHILE_SAVING = 0.03
_SIMULATED_BATCHES = 512
_QUANTILES = np.arange(0.05, 0.99, 0.05)
# Windows whose mean graph is larger by more than so many standard errors may need the last budget.
_STANDARD_ERRORS = 3.0
_TINY = np.finfo(np.float64).tiny


def choose_budgets(
    sizes: GraphSizes, batch_size: int, num_devices: int = 1, window: int = 1
) -> list[Budget]:
    """Chooses budgets for the batches that `plan_epoch` makes of shuffled graphs.

    The last budget holds the largest graphs together, so that no batch can ever be too large. Where
    it saves enough slots there is one before it for nearly every batch, and one for the smaller
    batches, both read off simulated windows.

    Args:
      sizes: sizes of the training graphs.
      batch_size: graphs in a batch, over all devices.
      num_devices: devices that share a batch.
      window: batches that are dealt together.

    Returns:
      One to three budgets for one device, in ascending order.

    Raises:
      ValueError: an argument is not positive.
    """
    require_positive(batch_size=batch_size, num_devices=num_devices, window=window)
    graphs = -(-batch_size // num_devices)
    largest = np.array([np.sort(v)[-graphs:].sum() for v in (sizes.nodes, sizes.edges)])
    needs, nearly_all = _simulate(sizes, batch_size, num_devices, window)

    def rounded(need: np.ndarray) -> Budget:
        nodes, edges = np.minimum(need, largest).tolist()
        return rounded_budget(nodes, edges, graphs)

    budgets = _with_best([rounded(largest)], [rounded(nearly_all)], needs)
    quantiles = np.quantile(needs, _QUANTILES, axis=0, method="higher")
    return _with_best(budgets, [rounded(need) for need in quantiles], needs)


def _simulate(
    sizes: GraphSizes, batch_size: int, num_devices: int, window: int
) -> tuple[np.ndarray, np.ndarray]:
    """Deals random windows and looks at what the devices need.

    Returns:
      int64 `[batches, 2]` nodes and edges for each simulated batch, and `[2]` what is enough for
      nearly every batch: the greatest excess of a device over the mean of its window, in a window
      whose mean is large itself, or whatever was seen to be needed.
    """
    columns = np.stack([sizes.nodes, sizes.edges], axis=1)
    count = len(columns)
    batch_size = min(batch_size, count)
    length = batch_size * min(shortest_window(count, batch_size, window), _SIMULATED_BATCHES)
    needs, excess, simulated = [], np.ones(2), 0
    for graphs in _random_windows(count, length):
        plan = plan_epoch(
            graphs, sizes, batch_size=batch_size, num_devices=num_devices, window=window
        )
        needs.append(largest_parts(plan, sizes))
        mean = columns[graphs].mean(axis=0) * batch_size / num_devices
        excess = np.maximum(excess, needs[-1].max(axis=0) / np.maximum(mean, _TINY))
        simulated += len(plan)
        if simulated >= _SIMULATED_BATCHES:
            break
    all_needs = np.concatenate(needs)
    # Standard error of a mean of `length` out of `count` graphs, drawn without replacement.
    error = columns.std(axis=0) * math.sqrt((1 - length / count) / length)
    large_mean = columns.mean(axis=0) + _STANDARD_ERRORS * error
    nearly_all = np.ceil(large_mean * batch_size / num_devices * excess).astype(np.int64)
    return all_needs, np.maximum(nearly_all, all_needs.max(axis=0))


def _random_windows(count: int, length: int) -> Iterator[np.ndarray]:
    """Endless disjoint sets of `length` out of `count` graphs, of one shuffle after another."""
    generator = np.random.default_rng(0)
    while True:
        order = generator.permutation(count)
        yield from order[: count // length * length].reshape(-1, length)


def _with_best(budgets: list[Budget], candidates: list[Budget], needs: np.ndarray) -> list[Budget]:
    """The budgets with the best candidate before them, where that saves enough slots."""
    best = min(candidates, key=lambda budget: _mean_slots([budget, *budgets], needs))
    saves = _mean_slots([best, *budgets], needs) / _mean_slots(budgets, needs)
    return [best, *budgets] if saves < 1 - _WORTHWHILE_SAVING else budgets


def _mean_slots(budgets: Sequence[Budget], needs: np.ndarray) -> float:
    """Node and edge slots of the mean batch, each as a share of those of the last budget."""
    last = budgets[-1]
    slots = np.array([b.n_node / last.n_node + b.n_edge / last.n_edge for b in budgets])
    holding = [(needs[:, 0] < b.n_node) & (needs[:, 1] <= b.n_edge) for b in budgets]
    return float(slots[np.argmax(holding, axis=0)].mean())
