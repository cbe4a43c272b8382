"""The optimiser step: schedule, clip, decay, refusal of non-finite gradients, the KL stop."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jtf_ppo.config import PPOConfig
from jtf_ppo.hyper import make_hyper
from jtf_ppo.learner import make_learner
from jtf_ppo.optimiser import ADAM_EPS, apply_gradient, dense_norm, make_optimiser, per_dense_row
from jtf_ppo.schedules import learning_rate
from tests.ppo.toy import (
    WINDOW,
    assert_trees_close,
    assert_trees_equal,
    fresh_state,
    make_rows,
    row_environment,
    tiny_config,
)

CONFIG = PPOConfig(learning_rate=1e-3, num_envs=1)
TABLE = make_rows(60, 21)


@pytest.mark.parametrize(
    ("progress", "share"),
    [
        (0.0, 0.1),
        (0.025, 0.55),  # half of the warm-up: .1 + .9 / 2
        (0.05, 1.0),
        (0.525, 0.505),  # half of the cosine: .01 + .99 / 2
        (1.0, 0.01),
    ],
)
def test_the_learning_rate_follows_the_schedule(progress, share):
    assert float(learning_rate(jnp.float32(progress), make_hyper(CONFIG))) == pytest.approx(1e-3 * share, rel=1e-5)


def test_a_schedule_without_warm_up_starts_at_the_peak():
    config = make_hyper(replace(CONFIG, warmup_fraction=0.0))
    assert float(learning_rate(jnp.float32(0.0), config)) == pytest.approx(1e-3, rel=1e-5)


def params_like(value: float, dtype: type = np.float32) -> dict:
    """Parameters of a small address network, named as the real ones."""
    shapes = {
        "first": {"kernel": (4, 3, 2), "context_kernel": (2, 2), "bias": (2,)},
        "hidden_0": {"kernel": (2, 2), "bias": (2,)},
        "policy": {"kernel": (2, 3), "bias": (3,)},
    }
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda shape: jnp.asarray(value * rng.normal(size=shape), dtype), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )


def step(params, gradient, config=CONFIG, loss=1.0, max_norm=0.5, optimiser=None, rate=1e-2):
    """``(params, state, norm, skipped, state before)`` of a first step with window 4."""
    optimiser = optimiser or make_optimiser(config, make_hyper(config))
    before = optimiser.init(params)
    result = apply_gradient(
        optimiser, params, before, gradient, jnp.float32(loss), jnp.float32(rate), max_norm, window=4
    )
    return *result, before


def test_a_context_row_counts_once_per_window_row_in_the_norm():
    # Dense rows of a context row of gradient 8 over window 4: four rows of 2, so squares 4 * 4 = 16 = 8^2 / 4.
    gradient = {"first": {"context_kernel": jnp.asarray([[8.0]]), "kernel": jnp.asarray([[[3.0]]])}}
    rows = per_dense_row(gradient, 4)
    assert float(dense_norm(rows, rows, 4)) == pytest.approx(5.0)


def test_the_clip_scales_the_whole_gradient_to_the_norm():
    # Plain gradient descent shows what is left of the gradient: rate 1, norm .5.
    params, gradient = params_like(1.0), params_like(30.0)
    del gradient["first"]["context_kernel"], params["first"]["context_kernel"]
    after, _, norm, _, _ = step(params, gradient, optimiser=optax.identity(), rate=1.0)
    moved = jax.tree.map(lambda new, old: new - old, after, params)
    assert float(norm) == pytest.approx(float(optax.tree.norm(gradient)), rel=1e-5)
    assert float(optax.tree.norm(moved)) == pytest.approx(0.5, rel=1e-4)
    assert_trees_close(moved, jax.tree.map(lambda g: -g * 0.5 / norm, gradient), 1e-5)


def test_a_gradient_below_the_norm_is_not_scaled():
    params, gradient = {"kernel": jnp.zeros(2)}, {"kernel": jnp.asarray([0.3, 0.0])}
    after, *_ = step(params, gradient, optimiser=optax.identity(), rate=1.0)
    np.testing.assert_allclose(after["kernel"], [-0.3, 0.0], rtol=1e-6)


def test_a_first_adam_step_equals_the_hand_number():
    # After one step both moments are unbiased: g / (|g| + eps), here for g = .3.
    params, gradient = {"kernel": jnp.zeros(1)}, {"kernel": jnp.asarray([0.3])}
    after, *_ = step(params, gradient, rate=1e-2)
    np.testing.assert_allclose(after["kernel"], [-1e-2 * 0.3 / (0.3 + ADAM_EPS)], rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_non_finite_gradient_leaves_parameters_and_moments_untouched(bad):
    params, gradient = params_like(1.0), params_like(1.0)
    gradient["policy"]["bias"] = gradient["policy"]["bias"].at[0].set(bad)
    after, state, _, skipped, before = step(params, gradient)
    assert bool(skipped)
    assert_trees_equal((after, state), (params, before))


def test_a_non_finite_loss_leaves_parameters_and_moments_untouched():
    params = params_like(1.0)
    after, state, _, skipped, before = step(params, params_like(1.0), loss=np.nan)
    assert bool(skipped)
    assert_trees_equal((after, state), (params, before))


def test_a_finite_gradient_is_not_skipped():
    params = params_like(1.0)
    after, _, _, skipped, _ = step(params, params_like(1.0))
    assert not bool(skipped)
    assert (after["policy"]["kernel"] != params["policy"]["kernel"]).all()


def test_weight_decay_shrinks_the_first_kernels_and_nothing_else():
    params = params_like(1.0)
    # Next to nothing, not nothing: without any gradient there is no step.
    nearly = jax.tree.map(lambda x: jnp.full_like(x, 1e-12), params)
    after, *_ = step(params, nearly, replace(CONFIG, weight_decay=0.1), rate=1e-2)
    # Decoupled: each step takes rate * decay = .001 of the weight away.
    expected = {**params, "first": {**params["first"]}}
    for name in ("kernel", "context_kernel"):
        expected["first"][name] = params["first"][name] * 0.999
    assert_trees_close(after, expected, 1e-6)
    assert (after["first"]["kernel"] != params["first"]["kernel"]).all()


def test_without_any_gradient_neither_momentum_nor_decay_takes_a_step():
    params, config = params_like(1.0), replace(CONFIG, weight_decay=0.1)
    optimiser = make_optimiser(config, make_hyper(config))
    loss, rate = jnp.zeros(()), jnp.float32(1e-2)
    moving, state, *_ = apply_gradient(optimiser, params, optimiser.init(params), params, loss, rate, 0.5, WINDOW)
    nothing = jax.tree.map(jnp.zeros_like, params)
    after, _, _, skipped = apply_gradient(optimiser, moving, state, nothing, loss, rate, 0.5, WINDOW)
    assert_trees_equal(after, moving)
    assert not skipped, "an empty minibatch is no divergence"


@cache
def program(**changes: object):
    """``(state, update)`` of a fresh run of the sample engine: 4 epochs of 2 minibatches an update, 4 updates."""
    env = row_environment(address=False)
    config = tiny_config(env, 60, engine="samples", update_epochs=4, **changes)
    update, hyper = jax.jit(make_learner(env, config).update), make_hyper(config)
    return fresh_state(env, TABLE, config), lambda state, table: update(state, hyper, table)


def first_update(**changes: object):
    """``(state, metrics)`` after it."""
    state, update = program(**changes)
    return update(state, TABLE)


def test_without_a_kl_bound_every_epoch_runs():
    _, metrics = first_update()
    assert float(metrics["train/epochs"]) == 4.0


def test_a_passed_kl_bound_stops_the_remaining_epochs():
    # The first minibatch moves the policy, so that the second one of the same epoch sees a positive KL.
    _, metrics = first_update(target_kl=1e-9)
    assert float(metrics["train/epochs"]) == 1.0


def test_a_kl_bound_that_is_not_passed_changes_nothing():
    free, _ = first_update()
    bounded, _ = first_update(target_kl=1e9)
    assert_trees_close(bounded.params, free.params, 1e-6)


def test_metrics_after_a_kl_stop_are_means_over_the_epochs_that_ran():
    _, metrics = first_update(target_kl=1e-9)
    # ln 3 is the entropy of three equal actions, which the policy has hardly left; a mean over 4 epochs were a quarter.
    assert float(metrics["train/entropy"]) == pytest.approx(np.log(3.0), rel=0.02)


def test_skipped_steps_are_counted_and_the_streak_stays_at_its_limit():
    # Not-a-number in every reward: 4 epochs of 2 minibatches are skipped.
    before, update = program()
    after, metrics = update(before, TABLE._replace(features=TABLE.features.at[:, 0].set(jnp.nan)))
    assert (float(metrics["train/skipped"]), float(metrics["train/skip_streak"])) == (8, 3)
    assert_trees_equal((after.params, after.opt_state), (before.params, before.opt_state))


@pytest.mark.parametrize(("streak", "after"), [(0, 0), (2, 0), (3, 3)])
def test_a_finite_step_ends_a_streak_unless_it_is_full(streak, after):
    state, update = program()
    _, metrics = update(state._replace(streak=jnp.int32(streak)), TABLE)
    assert int(metrics["train/skip_streak"]) == after


def test_every_update_hands_on_a_new_key():
    before, _ = program()
    after, _ = first_update()
    assert (after.key != before.key).any()


def test_the_learning_rate_of_an_update_is_logged():
    # The first of four updates has 8 of 32 minibatches: shares 0, 1/32 .. 7/32 of the run.
    _, metrics = first_update()
    config = make_hyper(replace(CONFIG, learning_rate=1e-2))
    expected = np.mean([float(learning_rate(jnp.float32(k / 32), config)) for k in range(8)])
    assert float(metrics["train/learning_rate"]) == pytest.approx(expected, rel=1e-5)
