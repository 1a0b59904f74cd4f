from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.data import batching
from equiformer_jax.training import make_optimizer
from equiformer_jax.training.averages import ParameterAverage
from equiformer_jax.training.metrics import average
from equiformer_jax.training.objectives import DenoisingObjective, EnergyForceObjective
from equiformer_jax.training.sharding import make_data_mesh, place_batch, replicate
from equiformer_jax.training.state import create_train_state
from equiformer_jax.training.step import make_train_step
from tests.training.small_potential import initial_params, predict, random_source
from tests.virtual_devices import output_on_devices


def test_any_number_of_devices_gives_the_step_of_the_whole_batch():
    """Uneven graphs and padding, devices without a graph, micro-batches: the same weights."""
    output = output_on_devices("tests.training.whole_batch", 8)
    assert output.count("devices agree") == 5
    assert "divided states agree" in output


OBJECTIVE = EnergyForceObjective(energy_std=1.0, force_weight=1.0)


def one_device_step(params, objective=OBJECTIVE, predict=predict, parts=((0, 1, 2),), **options):
    """A step, a function that makes its first state, and a batch; parts are micro-batches."""
    mesh, optimizer = make_data_mesh(1), make_optimizer(1e-3, 0.0)
    step = make_train_step(predict, optimizer, objective, mesh, accumulate=len(parts), **options)
    with_average = options.get("average") is not None
    state = create_train_state(params, optimizer, jax.random.key(7), with_average)
    batch = batch_of(parts) if len(parts) > 1 else jax.tree.map(lambda x: x[0], batch_of(parts))
    graph = place_batch(batching.stack_for_devices([batch]), mesh)
    return step, lambda: replicate(jax.tree.map(jnp.copy, state), mesh), graph


def batch_of(parts):
    """Micro-batches of a random source, one after another on a new leading axis."""
    source = random_source(1 + max(max(part) for part in parts))
    parts = [np.array(part) for part in parts]
    budget = batching.budget_for([parts], source.sizes)
    packed = [batching.pack([source[i] for i in part], budget, source[0]) for part in parts]
    return batching.stack_for_devices(packed)


def assert_same(left, right, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), left, right)


def test_random_numbers_depend_on_the_key_of_the_run_and_the_step_alone():
    step, fresh, graph = one_device_step({**initial_params(), "noise": jnp.float64(1.0)})
    first, first_means = step(fresh(), graph)
    _, again = step(fresh(), graph)
    later = fresh().replace(step=jnp.int32(1))
    _, later_means = step(later, graph)
    assert float(first_means["loss"].value) == float(again["loss"].value)
    assert float(first_means["loss"].value) != float(later_means["loss"].value)
    assert int(first.step) == 1
    # The key itself never moves, so a resumed run goes on with the same draws.
    assert jax.random.key_data(first.rng).tolist() == jax.random.key_data(fresh().rng).tolist()


def test_the_state_is_donated():
    step, fresh, graph = one_device_step(initial_params())
    state = fresh()
    step(state, graph)
    assert state.params["inner"]["kernel"].is_deleted()


# --- Micro-batches ---


@pytest.mark.parametrize("parts", [[(0, 1), (2, 3), (4, 5)], [(5,), (0, 4, 2), (1, 3)]])
def test_micro_batches_give_the_step_of_the_undivided_batch(parts):
    whole, fresh, graph = one_device_step(initial_params(), parts=[range(6)])
    expected, expected_means = whole(fresh(), graph)
    step, fresh, graph = one_device_step(initial_params(), parts=parts)
    state, means = step(fresh(), graph)
    # Both moments of the optimizer after one step are the gradient and its square.
    assert_same(state.opt_state, expected.opt_state, rtol=1e-12)
    assert_same(state.params, expected.params, rtol=1e-12)
    assert means.keys() == expected_means.keys()
    assert_same(means, expected_means, rtol=1e-12)
    assert int(means["loss/energy"].count) == 6


def test_micro_batches_weigh_their_terms_with_the_counts_of_all():
    """Moved and unmoved atoms lie in different micro-batches, each without the other term."""

    def predict_noise(params, graph, key):
        return predict(params, graph, key) | {"denoising": graph.nodes["positions"] * params["d"]}

    def with_noise(graph, first_moved):
        moved = np.zeros(graph.n_node.shape[:-1] + graph.nodes["positions"].shape[-2:-1], bool)
        moved[first_moved] = True
        noise = 0.1 * graph.nodes["forces"]
        return graph._replace(nodes={**graph.nodes, "noise_mask": moved, "noise": noise})

    params = {**initial_params(), "d": jnp.float64(0.3)}
    objective = DenoisingObjective(2.0, num_epochs=2, steps_per_epoch=1)
    states = []
    for parts in ([(0, 1, 2)], [(0,), (1, 2)]):
        step, fresh, graph = one_device_step(params, objective, predict_noise, parts)
        graph = jax.device_get(graph)
        if len(parts) == 1:
            atoms = int(graph.n_node[0, 0])
            graph = with_noise(graph, (0, slice(0, atoms)))
        else:
            graph = with_noise(graph, (0, 0))
        states.append(step(fresh(), place_batch(graph, make_data_mesh(1))))
    (whole, whole_means), (divided, means) = states
    assert_same(divided.opt_state, whole.opt_state, rtol=1e-12)
    assert_same(means, whole_means, rtol=1e-12)
    assert int(means["loss/force"].count) > 0 < int(means["loss/denoising"].count)


def test_micro_batches_draw_different_random_numbers():
    params = {**initial_params(), "noise": jnp.float64(1.0)}
    objective = EnergyForceObjective(energy_std=1.0)
    losses = []
    for parts in ([(0,), (0,)], [(0,)]):
        step, fresh, graph = one_device_step(params, objective, parts=parts)
        losses.append(float(step(fresh(), graph)[1]["loss"].value))
    assert losses[0] != losses[1]


def test_a_batch_with_other_axes_is_refused():
    _, fresh, divided = one_device_step(initial_params(), parts=[(0,), (1,)])
    step, _, whole = one_device_step(initial_params(), parts=[(0, 1)])
    with pytest.raises(ValueError, match=r"axes \[devices, graphs\]; .* \(1, 2, 2\)"):
        step(fresh(), divided)
    step, _, _ = one_device_step(initial_params(), parts=[(0,), (1,), (0,)])
    with pytest.raises(ValueError, match=r"axes \[devices, accumulate=3, graphs\]"):
        step(fresh(), divided)
    with pytest.raises(ValueError, match="accumulate=0; expected at least 1"):
        make_train_step(predict, make_optimizer(1e-3, 0.0), OBJECTIVE, None, accumulate=0)


# --- Weights that change during the run ---


def test_the_loss_takes_the_weights_of_its_step():
    class Rising(EnergyForceObjective):
        def weights_at(self, step):
            return {"energy": 1.0, "force": jnp.asarray(step) * 1.0}

    step, fresh, graph = one_device_step(initial_params(), Rising(1.0, force_weight=1.0))
    for number in (1, 3):
        constant = EnergyForceObjective(1.0, force_weight=float(number))
        plain, plain_fresh, _ = one_device_step(initial_params(), constant)
        expected, expected_means = plain(plain_fresh(), graph)
        state, means = step(fresh().replace(step=jnp.int32(number)), graph)
        assert_same(means, expected_means, rtol=1e-13)
        assert_same(state.opt_state, expected.opt_state, rtol=1e-13)


# --- Moving average ---


def test_the_average_follows_the_updated_parameters():
    moving = ParameterAverage(0.9, warmup=True)
    step, fresh, graph = one_device_step(initial_params(), average=moving)
    plain, plain_fresh, _ = one_device_step(initial_params())
    state, expected, plain_state = fresh(), initial_params(), plain_fresh()
    for number in range(3):
        state, _ = step(state, graph)
        plain_state, _ = plain(plain_state, graph)
        expected = moving.update(expected, plain_state.params, jnp.int32(number))
    assert_same(state.params, plain_state.params, rtol=1e-15)
    assert_same(state.ema_params, expected, rtol=1e-14)
    assert plain_state.ema_params is None


def test_an_average_on_one_side_alone_is_refused():
    step, fresh, graph = one_device_step(initial_params(), average=ParameterAverage(0.9))
    plain, plain_fresh, _ = one_device_step(initial_params())
    with pytest.raises(ValueError, match="the step has a moving average .* the state has none"):
        step(plain_fresh(), graph)
    with pytest.raises(ValueError, match="the state has a moving average .* the step has none"):
        plain(fresh(), graph)


# --- Steps that are not finite ---


def with_bad_label(graph):
    energies = jax.device_get(graph.globals["energy"]).copy()
    energies[0, 1] = np.nan
    bad = graph._replace(globals={**graph.globals, "energy": energies})
    return place_batch(jax.device_get(bad), make_data_mesh(1))


def test_a_step_that_is_not_finite_is_skipped_and_counted():
    step, fresh, graph = one_device_step(
        initial_params(), average=ParameterAverage(0.5), skip_nonfinite=True
    )
    state, good = step(fresh(), graph)
    assert (int(good["skipped"].total), int(good["skipped"].count)) == (0, 1)
    before = jax.device_get((state.params, state.opt_state, state.ema_params))
    state, bad = step(state, with_bad_label(graph))
    assert_same((state.params, state.opt_state, state.ema_params), before, rtol=0)
    assert int(state.step) == 2
    assert jax.random.key_data(state.rng).tolist() == jax.random.key_data(fresh().rng).tolist()
    assert (int(bad["skipped"].total), int(bad["skipped"].count)) == (1, 1)
    # Nothing of it enters the averages of an epoch.
    averages = average([good, bad])
    assert averages.pop("skipped") == 0.5
    assert averages == {name: value for name, value in average([good]).items() if name != "skipped"}


def test_skipping_changes_no_finite_step():
    step, fresh, graph = one_device_step(initial_params(), skip_nonfinite=True)
    plain, plain_fresh, _ = one_device_step(initial_params())
    (state, means), (expected, expected_means) = step(fresh(), graph), plain(plain_fresh(), graph)
    assert_same(state.params, expected.params, rtol=1e-15)
    assert means.keys() - expected_means.keys() == {"skipped"}


def test_a_finite_loss_with_an_infinite_gradient_is_skipped():
    def steep(params, graph, key):
        # The slope of the root is infinite at zero, where its value is zero.
        return {"energy": jnp.sqrt(params["root"]) * jnp.ones(len(graph.n_node))}

    step, fresh, graph = one_device_step(
        {"root": jnp.float64(0.0)}, EnergyForceObjective(1.0), steep, skip_nonfinite=True
    )
    state, means = step(fresh(), graph)
    assert int(means["skipped"].total) == 1
    assert float(state.params["root"]) == 0.0


def test_without_the_option_a_loss_that_is_not_finite_shows():
    step, fresh, graph = one_device_step(initial_params())
    _, means = step(fresh(), with_bad_label(graph))
    assert np.isnan(means["loss"].total)
    assert "skipped" not in means


def test_more_devices_than_there_are_are_refused():
    with pytest.raises(ValueError, match="99 devices asked for"):
        make_data_mesh(99)
