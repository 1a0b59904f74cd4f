"""Potentials of a few parameters, and structures for them."""

from __future__ import annotations

import numpy as np

import equiformer_jax as eqf
from equiformer_jax.data.normalizer import Normalizer
from equiformer_jax.inference.meaning import Meaning
from equiformer_jax.inference.potential import Potential
from tests.models.small_models import random_variables, small_config

# The smallest model that is still one.
TINY = {
    "num_layers": 1,
    "irreps_node_embedding": "4x0e+2x1e",
    "irreps_sh": "1x0e+1x1e",
    "irreps_head": "2x0e+1x1e",
    "irreps_mlp_mid": "4x0e+2x1e",
    "irreps_feature": "4x0e",
}
# That of OC20, with its auxiliary task.
TINY_RELAXATION = TINY | {
    "irreps_feature": "4x0e+2x1e",
    "irreps_pre_attn": "4x0e+2x1e",
    "max_radius": 3.5,
}
NORMALIZER = Normalizer(scale=2.5, mean=-40.0)


def tiny_config(preset="md17_l2_linear", **overrides):
    fields = TINY_RELAXATION if preset.startswith("oc20") else TINY
    return small_config(preset, **(fields | overrides))


def variables_of(config, seed=0):
    pair = eqf.Structure(np.eye(2, 3), [1, 1], tags=[1, 1])
    graph = eqf.batch_graphs([eqf.build_graph(pair, cutoff=2.0)])
    return random_variables(eqf.Equiformer(config), graph, seed)


def tiny_potential(config=None, meaning=None, **options):
    config = config or tiny_config()
    params = variables_of(config)["params"]
    return Potential(config, params, meaning or Meaning(NORMALIZER), **options)


def molecules(count, seed=0, largest=12):
    """Clouds of 2 to `largest` atoms, each sure to have neighbors."""
    generator = np.random.default_rng(seed)
    structures = []
    for _ in range(count):
        atoms = int(generator.integers(2, largest + 1))
        steps = generator.normal(size=(atoms, 3))
        steps *= 1.3 / np.linalg.norm(steps, axis=1, keepdims=True)
        structures.append(
            eqf.Structure(np.cumsum(steps, axis=0), generator.choice([1, 6, 7, 8], atoms))
        )
    return structures


def crystal(seed=0, atoms=3, pbc=True, **labels):
    generator = np.random.default_rng(seed)
    cell = np.diag([3.1, 4.2, 4.9]) + generator.uniform(-0.3, 0.3, (3, 3))
    positions = generator.random((atoms, 3)) @ cell
    tags = np.arange(atoms) % 3
    return eqf.Structure(positions, [6, 8, 1][:atoms], cell=cell, pbc=pbc, tags=tags, **labels)


def directly(potential, structure):
    """Energy and forces of one structure by itself, in eV; all in one shape."""
    config, scale = potential.config, potential.meaning.normalizer.scale
    graph = eqf.build_graph(structure, config.max_radius)
    graph = eqf.batch_graphs([graph], n_node=20, n_edge=160, n_graph=2)
    variables = {"params": potential.params}
    energy, forces = eqf.energy_and_forces(eqf.Equiformer(config), variables, graph)
    offset = potential.meaning.normalizer.offset(structure)
    return offset + scale * float(energy[0]), scale * np.asarray(forces[: structure.num_atoms])


def same_labels(one, other, tolerance=1e-10):
    """Whether two structures have the same predictions."""
    names = ("energy", "forces", "stress", "relaxed_positions", "relaxed_energy")
    values = [(getattr(one, name), getattr(other, name)) for name in names]
    return all(
        (a is None) == (b is None) and (a is None or np.abs(a - b).max() < tolerance)
        for a, b in values
    )
