"""Whole models against the official release: values, forces, and gradients of its losses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

import equiformer_jax as eqf
from equiformer_jax.models.equiformer import apply_model
from tests import golden
from tests.paths import needs_golden

pytestmark = needs_golden

NAMES = golden.names("model")
# Gradients through forces compile slowly; one of these models is checked in every run.
SLOW = {name for name in NAMES if name.startswith(("md17", "dens"))} - {"md17_l2_nonlinear_exp"}


def outputs_and_loss(
    model: eqf.Equiformer, variables: Any, graph: jraph.GraphsTuple, fixture: golden.Fixture
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The official outputs, and the loss that `meta.loss` describes."""
    inputs, wanted = fixture.group("in"), fixture.group("out")
    atoms, graphs = len(inputs["pos"]), int(inputs["batch"].max()) + 1
    if "forces" in wanted or "dy" in wanted:
        energy, forces = eqf.energy_and_forces(model, variables, graph)
        out = {"energy": energy[:graphs], "forces": forces[:atoms]}
    else:
        result = apply_model(model, variables, graph)
        out = {"energy": result["energy"][:graphs]}
        if "aux" in wanted:
            out["aux"] = result["displacement"][:atoms]
    if "dy" in wanted:
        mask = inputs["noise_mask"].astype(bool)[:, None]
        denoising = apply_model(model, variables, graph)["denoising"][:atoms]
        out["dy"] = jnp.where(mask, denoising, out.pop("forces"))
    return loss(out, inputs), out


def loss(out: dict[str, jax.Array], inputs: dict[str, np.ndarray]) -> jax.Array:
    def l2mae(x: jax.Array) -> jax.Array:
        return jnp.linalg.norm(x, axis=-1).mean()

    target = inputs["target" if "target" in inputs else "target_e"].ravel()
    total = jnp.abs(out["energy"] - target).mean()
    if "forces" in out:
        total += 80 * l2mae(out["forces"] - inputs["target_f"])
    if "dy" in out:
        mask = inputs["noise_mask"].astype(bool)
        total += 80 * l2mae(out["dy"][~mask] - inputs["target_f"][~mask])
        total += 5 * l2mae(out["dy"][mask] - inputs["noise_vec"][mask] / 0.05)
    if "aux" in out:
        total += 15 * jnp.abs(out["aux"][inputs["tags"] > 0] - 0.1).mean()
    return total


def evaluate(name: str, dtype: str, with_gradient: bool) -> tuple[golden.Fixture, Any, Any, Any]:
    fixture = golden.read("model", name)
    config = golden.model_config(fixture)
    model = eqf.Equiformer(config)
    variables = eqf.variables_from_torch(fixture.group("param"), config)
    variables, graph = jax.tree.map(
        lambda x: x.astype(dtype) if x.dtype == np.float64 else x,
        (variables, golden.model_graph(fixture, config)),
    )

    def objective(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        return outputs_and_loss(model, {"params": params}, graph, fixture)

    if not with_gradient:
        value, out = jax.jit(objective)(variables["params"])
        return fixture, value, out, None
    (value, out), gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))(
        variables["params"]
    )
    return fixture, value, out, eqf.variables_to_torch({"params": gradient}, config)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in NAMES]
)
def test_values_forces_and_gradients_in_float64(name: str) -> None:
    fixture, value, out, gradient = evaluate(name, "float64", with_gradient=True)
    wanted = fixture.group("out")
    assert golden.relative_error(value, wanted["loss"]) < 1e-9
    for key, array in out.items():
        assert golden.relative_error(array, wanted[key]) < 1e-9, key
    official = fixture.group("grad")
    assert official
    largest = max(np.abs(x).max() for x in official.values())
    for key, array in official.items():
        scale = max(np.abs(array).max(), 1e-6 * largest)
        assert np.abs(gradient[key].reshape(array.shape) - array).max() < 1e-9 * scale, key


@pytest.mark.parametrize("name", NAMES)
def test_values_and_forces_in_float32(name: str, float32_mode: None) -> None:
    fixture, value, out, _ = evaluate(name, "float32", with_gradient=False)
    wanted = fixture.group("out")
    assert golden.relative_error(value, wanted["loss"]) < 1e-4
    for key, array in out.items():
        assert array.dtype == np.float32
        assert golden.relative_error(array, wanted[key]) < 1e-4, key


# The graph norm divides by the spread of a channel within a molecule, nearly zero where atoms are
# equivalent by symmetry: roundoff of the features themselves grows by up to 1 / sqrt(1e-5).
FLOAT32_BOUNDS = {"qm9_l2_nonlinear_graphnorm": 1e-3}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_gradients_in_float32(name: str, float32_mode: None) -> None:
    fixture, _, _, gradient = evaluate(name, "float32", with_gradient=True)
    official, bound = fixture.group("grad"), FLOAT32_BOUNDS.get(name, 1e-4)
    largest = max(np.abs(x).max() for x in official.values())
    for key, array in official.items():
        error = np.abs(gradient[key].reshape(array.shape) - array).max()
        assert error < bound * max(np.abs(array).max(), 1e-3 * largest), key


@pytest.mark.parametrize("name", NAMES)
def test_parameters_come_back_bit_for_bit(name: str) -> None:
    fixture = golden.read("model", name)
    config = golden.model_config(fixture)
    official = fixture.group("param")
    back = eqf.variables_to_torch(eqf.variables_from_torch(official, config), config)
    assert set(back) == set(official)
    for key in set(official) - {"rbf.means", "rbf.betas"}:  # constants, made anew
        np.testing.assert_array_equal(back[key], official[key], strict=True)


def test_denoising_model_on_clean_structures():
    fixture = golden.read("model", "dens_l2")
    config = golden.model_config(fixture)
    inputs = fixture.group("in")
    clean = {f"in/{key}": x for key, x in inputs.items() if key not in ("force", "noise_mask")}
    fixture = golden.Fixture(fixture.name, fixture.meta, fixture.arrays | clean)
    for key in ("in/force", "in/noise_mask"):
        del fixture.arrays[key]
    fixture.arrays["in/pos"] = inputs["pos_clean"]
    graph = golden.model_graph(fixture, config)
    variables = eqf.variables_from_torch(fixture.group("param"), config)
    energy, forces = eqf.energy_and_forces(eqf.Equiformer(config), variables, graph)
    wanted = fixture.group("out")
    assert golden.relative_error(energy[:3], wanted["energy_clean"]) < 1e-9
    assert golden.relative_error(forces[: len(inputs["z"])], wanted["forces_clean"]) < 1e-9
