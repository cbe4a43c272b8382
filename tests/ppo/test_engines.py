"""Both engines: one rollout, one step; every sample once an epoch; actions as often as the policy says."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params

from jtf_ppo.config import PPOConfig
from jtf_ppo.engine import RolloutState, noise_by_column, shuffled_minibatches
from jtf_ppo.hyper import make_hyper
from jtf_ppo.learner import TrainState, make_learner
from jtf_ppo.losses import entropy
from jtf_ppo.networks import Dropout
from jtf_ppo.optimiser import apply_gradient, make_optimiser
from jtf_ppo.rows import evaluate_rows, sum_by_row
from jtf_ppo.sampling import bits_to_uniform, cumulative, inverse_cdf, mix_bits
from tests.ppo.toy import (
    WINDOW,
    address_of,
    assert_trees_close,
    assert_trees_equal,
    bound_engine,
    fresh_state,
    make_rows,
    row_environment,
    tiny_config,
    tiny_network,
)

ENV, TABLE = row_environment(), make_rows(60, 11)
ENGINES = ("samples", "rows")


def configured(engine: str, **changes: object) -> PPOConfig:
    return tiny_config(ENV, 60, engine=engine, **changes)


@cache
def parts(config: PPOConfig):
    """``(engine, params, rollout_state)`` for a policy that is far from uniform."""
    graph, params = tiny_network(ENV, TABLE, config, scale=100.0)
    state, observation = jax.jit(ENV.reset, static_argnums=1)(jax.random.key(3), config.num_envs, TABLE)
    return bound_engine(ENV, config, graph, TABLE), params, RolloutState(state, observation)


@cache
def rollout(config: PPOConfig):
    """``(rollout_state, batch, metrics)`` of one rollout."""
    engine, params, rollout_state = parts(config)
    return jax.jit(engine.collect)(params, rollout_state, jax.random.key(4), TABLE)


def loss_of(config: PPOConfig, key: int = 5, batch_of: PPOConfig | None = None) -> float:
    """Loss of the first minibatch over the rollout of `batch_of` (default: of `config`)."""
    engine, params, _ = parts(config)
    _, batch, _ = rollout(batch_of or config)

    @jax.jit
    def loss(params, batch, table):
        indices = engine.epoch_indices(jax.random.key(6), batch)[0][0]
        return engine.loss(params, params, batch, indices, jax.random.key(key), table)[0]

    return float(loss(params, batch, TABLE))


def everything(engine: str) -> PPOConfig:
    """One epoch, one minibatch; 8 environments that share rows, so that sums hold more than one sample."""
    size = 56 if engine == "rows" else 8 * 32
    return configured(engine, num_envs=8, num_steps=32, update_epochs=1, minibatch_size=size)


def test_both_engines_take_the_same_optimiser_step_on_one_rollout():
    by_samples, by_rows = everything("samples"), everything("rows")
    engine, params, _ = parts(by_samples)
    bars, _, _ = parts(by_rows)
    graph, _ = tiny_network(ENV, TABLE, by_samples)
    _, batch, _ = rollout(by_samples)
    optimiser = make_optimiser(by_samples, make_hyper(by_samples))

    @jax.jit
    def steps(params, batch, table):
        logits, values = evaluate_rows(graph, params, table, ENV.first_row, WINDOW, "gather")
        advantage = batch.target - values[batch.observation.row]
        sums = sum_by_row(batch.observation.row, batch.action, advantage, values, jax.nn.log_softmax(logits))

        def step(engine, batch):
            (loss, _), gradient = jax.value_and_grad(engine.loss, has_aux=True)(
                params, params, batch, engine.epoch_indices(jax.random.key(0), batch)[0][0], jax.random.key(1), table
            )
            new, *_ = apply_gradient(
                optimiser, params, optimiser.init(params), gradient, loss, jnp.float32(0.01), 0.5, WINDOW
            )
            return loss, gradient, new

        return step(engine, batch), step(bars, sums)

    one, other = steps(params, batch, TABLE)
    assert_trees_close(other, one, 2e-5)


def test_a_whole_update_of_either_engine_ends_at_the_same_parameters():
    results = []
    for engine in ENGINES:
        config = everything(engine)
        ready, params, rollout_state = parts(config)
        results.append(_update(config, ready, params, rollout_state))
    assert_trees_close(results[1][0], results[0][0], 5e-5)
    assert results[1][1]["train/reward"] == pytest.approx(float(results[0][1]["train/reward"]), rel=1e-5)


def test_the_entropy_of_an_epoch_of_rows_is_the_mean_over_its_samples_however_they_crowd():
    # One environment visits few of the rows: 16 samples in a few of 6 minibatches.
    config = configured("rows", num_envs=1, num_steps=16, minibatch_size=8, first_layer="fft")
    engine, params, _ = parts(config)
    _, batch, _ = rollout(config)

    @jax.jit
    def entropy_of_epoch(params, batch, table):
        def minibatch(starts):
            return engine.loss(params, params, batch, starts, jax.random.key(5), table)[1]["train/entropy"]

        return jax.lax.map(minibatch, engine.epoch_indices(jax.random.key(6), batch)[0]).sum()

    expected = (batch.samples * entropy(batch.log_probs)).sum() / 16
    assert engine.num_minibatches == 6
    assert float(entropy_of_epoch(params, batch, TABLE)) == pytest.approx(float(expected), rel=1e-5)


def _update(config, engine, params, rollout_state):
    zero = jnp.zeros((), jnp.int32)
    key = jax.random.key_data(jax.random.key(7))
    state = TrainState(
        params, make_optimiser(config, make_hyper(config)).init(params), key, rollout_state, zero, zero, zero
    )
    state, metrics = jax.jit(make_learner(ENV, config).update)(state, make_hyper(config), TABLE)
    return state.params, metrics


def test_sums_by_row_equal_hand_numbers():
    # Advantages 3, 1, -1, -3: mean 0, deviation sqrt(5). Row 1 holds (a0: 3, a0: 1), row 2 (a1: -1, a1: -3).
    rows, actions = np.asarray([[1, 2], [1, 2]], np.int32), np.asarray([[0, 1], [0, 1]], np.int8)
    advantages = np.asarray([[3.0, -1.0], [1.0, -3.0]], np.float32)
    sums = sum_by_row(rows, actions, advantages, jnp.asarray([0.0, 10.0, 20.0]), jnp.zeros((3, 2)))
    np.testing.assert_allclose(sums.positive_advantage, np.asarray([[0, 0], [4, 0], [0, 0]]) / np.sqrt(5), rtol=1e-6)
    np.testing.assert_allclose(sums.negative_advantage, np.asarray([[0, 0], [0, 0], [0, -4]]) / np.sqrt(5), rtol=1e-6)
    np.testing.assert_array_equal(sums.samples, [0, 2, 2])
    # Targets 13, 11 on row 1, whose value was 10, and 19, 17 on row 2, whose value was 20.
    np.testing.assert_allclose(sums.residual, [0, 3 + 1, -1 - 3])
    np.testing.assert_allclose(sums.residual_square, [0, 3**2 + 1**2, 1**2 + 3**2])
    np.testing.assert_array_equal(sums.values, [0, 10, 20])


@pytest.mark.parametrize(("num", "size", "minibatches"), [(262_144, 12_288, 22), (7, 3, 3), (8, 4, 2), (5, 5, 1)])
def test_a_cover_holds_every_item_once(num, size, minibatches):
    indices = np.asarray(shuffled_minibatches(jax.random.key(0), num, size))
    assert indices.shape == (minibatches, size)
    np.testing.assert_array_equal(np.sort(indices[indices < num]), np.arange(num))
    assert (indices[indices >= num] == num).all()


def test_two_epochs_are_in_different_order():
    first, second = (shuffled_minibatches(jax.random.key(k), 100, 10) for k in (0, 1))
    assert (first != second).any()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_environment_draws_from_another_word_than_the_action(engine):
    # A policy that always bets high leaves the words' upper bits free; where the environment used the action's own word
    # its draws would follow the action.
    words = []

    def step(bits, rows, action, data):
        jax.debug.callback(lambda b, a: words.append((np.asarray(b), np.asarray(a))), bits, action)
        return ENV.step(bits, rows, action, data)

    env = replace(ENV, step=step)
    config = configured(engine, num_envs=256, num_steps=16)
    graph, params = tiny_network(ENV, TABLE, config)
    state, observation = ENV.reset(jax.random.key(3), 256, TABLE)
    ready = bound_engine(env, config, graph, TABLE)
    jax.block_until_ready(jax.jit(ready.collect)(params, RolloutState(state, observation), jax.random.key(4), TABLE))
    jax.effects_barrier()
    bits, actions = (np.concatenate(part) for part in zip(*words, strict=True))
    third = (bits / 2**32 * 3).astype(int)
    counts = np.histogram2d(actions, third, bins=(3, 3))[0]
    expected = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
    # Independent: 4 degrees of freedom, 99.9 % quantile 18.5.
    assert chi_square(counts, expected) < 18.5


@pytest.mark.parametrize("engine", ENGINES)
def test_every_target_enters_the_losses_of_an_epoch_once(engine):
    # The value loss is quadratic in a sample's target (in a row's sum of squares: linear), so its derivative shows the
    # weight that each sample (row) had, over minibatches of an awkward size and with a random block offset.
    config = configured(engine, minibatch_size=13, vf_coef=1.0)
    ready, params, _ = parts(config)
    _, batch, _ = rollout(config)
    field = "residual_square" if engine == "rows" else "target"

    @jax.jit
    def weights(key, batch, table):
        def value_loss(target, indices):
            used = batch._replace(**{field: target})
            return ready.loss(params, params, used, indices, jax.random.key(0), table)[1]["loss/value"]

        slope = jax.grad(value_loss)
        return jax.lax.map(lambda indices: slope(getattr(batch, field), indices), ready.epoch_indices(key, batch)[0])

    for seed in range(3):
        entered = np.asarray(weights(jax.random.key(seed), batch, TABLE)) != 0.0
        expected = np.asarray(batch.samples) > 0 if engine == "rows" else np.ones(config.batch_size)
        np.testing.assert_array_equal(entered.sum(axis=0), expected)


def test_rows_of_an_epoch_weigh_the_same_within_a_minibatch():
    config = configured("rows", minibatch_size=13, vf_coef=1.0)
    ready, params, _ = parts(config)
    _, batch, _ = rollout(config)

    def value_loss(squares, indices):
        used = batch._replace(residual_square=squares)
        return ready.loss(params, params, used, indices, jax.random.key(0), TABLE)[0]

    starts = ready.epoch_indices(jax.random.key(1), batch)[0][0]
    slope = np.asarray(jax.jit(jax.grad(value_loss))(batch.residual_square, starts))
    # 1 / (2 total), where total = samples * visited rows of the minibatch / visited rows.
    rows, visited = (slope != 0).sum(), (np.asarray(batch.samples) > 0).sum()
    assert 1 < rows < visited
    np.testing.assert_allclose(slope[slope != 0], 0.5 / (config.batch_size * rows / visited), rtol=1e-5)


def test_a_minibatch_of_rows_without_any_row_has_loss_and_gradient_zero():
    # The slots of a minibatch that no block fills begin past the last row.
    config = configured("rows", minibatch_size=12)
    ready, params, _ = parts(config)
    _, batch, _ = rollout(config)

    @jax.jit
    def step(params, batch, table):
        starts, key = jnp.asarray([60], jnp.int32), jax.random.key(0)
        return jax.value_and_grad(lambda p: ready.loss(p, params, batch, starts, key, table)[0])(params)

    for leaf in jax.tree.leaves(step(params, batch, TABLE)):
        np.testing.assert_array_equal(leaf, np.zeros_like(leaf))


def test_the_loss_of_rows_is_a_mean_however_many_environments_ran():
    config = everything("rows")
    # Samples of an iteration times rows of a minibatch: 15 thousand million, far beyond 32 bits.
    many = replace(config, num_envs=config.num_envs * 2**20)
    engine, params, _ = parts(config)
    graph, _ = tiny_network(ENV, TABLE, config)
    engine_of_many = bound_engine(ENV, many, graph, TABLE)
    _, batch, _ = rollout(config)
    scaled = jax.tree.map(lambda x: x * 2.0**20, batch)._replace(log_probs=batch.log_probs, values=batch.values)
    indices = engine.epoch_indices(jax.random.key(6), batch)[0][0]
    once = jax.jit(engine.loss)(params, params, batch, indices, jax.random.key(5), TABLE)
    often = jax.jit(engine_of_many.loss)(params, params, scaled, indices, jax.random.key(5), TABLE)
    assert_trees_close(often, once, 1e-5)


def test_padding_of_a_sample_minibatch_changes_nothing():
    env = row_environment(address=False)
    config = tiny_config(env, 60, engine="samples", minibatch_size=30)
    graph, params = tiny_network(env, TABLE, config, scale=100.0)
    ready = bound_engine(env, config, graph, TABLE)
    state, observation = env.reset(jax.random.key(3), config.num_envs, TABLE)
    _, batch, _ = jax.jit(ready.collect)(params, RolloutState(state, observation), jax.random.key(4), TABLE)
    real, key = np.asarray([3, 1, 31], np.int32), jax.random.key(0)
    padded = np.asarray([3, 1, 31, 32, 32], np.int32)
    losses = [jax.jit(ready.loss)(params, params, batch, indices, key, None)[0] for indices in (real, padded)]
    assert losses[1] == pytest.approx(float(losses[0]), rel=1e-6)


def test_evaluated_rows_equal_addresses_one_by_one():
    config = configured("rows")
    graph, params = tiny_network(ENV, TABLE, config, scale=100.0)
    rows = np.arange(ENV.first_row, 60, dtype=np.int32)
    logits, values = jax.jit(lambda p, t: evaluate_rows(graph, p, t, ENV.first_row, WINDOW, "fft"))(params, TABLE)
    expected = jax.jit(lambda p, t: nnx.merge(graph, p)(address_of(rows), t))(params, TABLE)
    assert_trees_close((logits[4:], values[4:]), expected, 1e-5)
    assert not np.asarray(logits[:4]).any()


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    return float(((counts - expected) ** 2 / expected).sum())


def test_drawn_actions_match_the_policy():
    logits = np.asarray([0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 0.3, 0.1], np.float32)
    uniform = bits_to_uniform(jax.random.bits(jax.random.key(0), (100_000,), jnp.uint32))
    edges = jnp.broadcast_to(cumulative(logits)[None], (100_000, 7))
    counts = np.bincount(inverse_cdf(edges, uniform), minlength=8)
    # 99.9 % quantile of chi-square with 7 degrees of freedom: 24.3.
    assert chi_square(counts, 100_000 * np.exp(logits) / np.exp(logits).sum()) < 24.3


@pytest.mark.parametrize("engine", ENGINES)
def test_actions_of_a_rollout_match_the_policy(engine):
    # With equal rows the policy is the same everywhere, so the action shares of a rollout are multinomial.
    flat = TABLE._replace(features=jnp.zeros_like(TABLE.features), context=jnp.zeros_like(TABLE.context))
    config = configured(engine, num_envs=64, num_steps=64)
    ready, params, rollout_state = parts(config)
    params = jax.tree.map(lambda x: x, params)
    params["policy"]["bias"][...] = jnp.asarray([0.0, 1.0, -1.0])
    _, _, metrics = jax.jit(ready.collect)(params, rollout_state, jax.random.key(8), flat)
    shares = np.asarray([metrics[f"train/action_share_{a}"] for a in range(3)])
    probabilities = np.exp([0.0, 1.0, -1.0]) / np.exp([0.0, 1.0, -1.0]).sum()
    # 99.9 % quantile with 2 degrees of freedom: 13.8.
    assert chi_square(4096 * shares, 4096 * probabilities) < 13.8


def test_an_action_says_nothing_about_what_the_environment_draws_from_the_same_word():
    bits = jax.random.bits(jax.random.key(1), (60_000,), jnp.uint32)
    action = np.asarray((bits_to_uniform(bits) * 3).astype(jnp.int32))
    start = np.asarray((bits_to_uniform(mix_bits(bits)) * 20).astype(jnp.int32))
    counts = np.histogram2d(action, start, bins=(3, 20))[0]
    # Independent uniform cells: 60 - 1 degrees of freedom, 99.9 % quantile 98.3.
    assert chi_square(counts, np.full((3, 20), 1000.0)) < 98.3


def test_a_uniform_draw_never_reaches_one():
    assert float(bits_to_uniform(jnp.asarray([2**32 - 1], jnp.uint32))[0]) < 1.0


def test_advantages_are_normalised_over_the_rollout_of_samples():
    _, batch, _ = rollout(configured("samples"))
    assert float(batch.advantage.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(batch.advantage.std()) == pytest.approx(1.0, rel=1e-5)


def test_advantages_are_normalised_over_the_rollout_of_bars():
    _, batch, _ = rollout(configured("rows"))
    assert float((batch.positive_advantage + batch.negative_advantage).sum()) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("noise", ["feature_noise", "context_noise"])
def test_noise_changes_the_training_loss(engine, noise):
    quiet = everything(engine)
    noisy = replace(quiet, **{noise: 1.0})
    assert loss_of(noisy, batch_of=quiet) != loss_of(quiet)


@pytest.mark.parametrize("engine", ENGINES)
def test_noise_is_drawn_afresh_for_every_minibatch(engine):
    noisy = replace(everything(engine), feature_noise=1.0)
    assert loss_of(noisy, key=5) != loss_of(noisy, key=6)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_column_that_never_changes_gets_no_noise(engine):
    # Without noise its inputs are 0, so its kernel rows have no gradient; those of the other columns move.
    table = TABLE._replace(features=TABLE.features.at[:, 2].set(0.0), context=TABLE.context.at[:, 1].set(0.0))
    config = configured(engine, feature_noise=1.0, context_noise=1.0)
    state = fresh_state(ENV, table, config)
    before = jax.tree.map(np.asarray, state.params["first"])
    after, _ = jax.jit(make_learner(ENV, config).update)(state, make_hyper(config), table)
    moved = {name: np.asarray(after.params["first"][name]) != before[name] for name in ("kernel", "context_kernel")}
    assert not moved["kernel"][:, 2].any() and moved["kernel"][:, :2].all()
    assert not moved["context_kernel"][1].any() and moved["context_kernel"][0].all()


def test_noise_is_the_same_for_every_column_that_changes_however_much():
    table = TABLE._replace(features=TABLE.features * jnp.asarray([[1.0, 0.05, 0.0]]))
    hyper = noise_by_column(make_hyper(configured("rows", feature_noise=0.5)), table)
    np.testing.assert_array_equal(hyper.feature_noise, [0.5, 0.5, 0.0])


@pytest.mark.parametrize("engine", ENGINES)
def test_noise_does_not_touch_the_rollout(engine):
    quiet = everything(engine)
    noisy = replace(quiet, feature_noise=1.0, context_noise=1.0, dropout=0.5)
    assert_trees_equal(rollout(noisy), rollout(quiet))


@pytest.mark.parametrize("engine", ENGINES)
def test_dropout_changes_the_training_loss(engine):
    plain = everything(engine)
    dropped = replace(plain, dropout=0.5)
    assert loss_of(dropped, batch_of=plain) != loss_of(plain)


def test_dropout_zeroes_its_share_and_keeps_the_mean():
    dropped = np.asarray(Dropout(0.25, jax.random.key(0))(jnp.ones((100, 100))))
    assert (dropped == 0).mean() == pytest.approx(0.25, abs=0.02)
    np.testing.assert_allclose(dropped[dropped > 0], 1 / 0.75, rtol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_rollout_stores_at_most_32_bytes_a_sample(engine):
    config = configured(engine, num_envs=16, num_steps=11)
    ready, params, rollout_state = parts(config)
    jaxpr = jax.make_jaxpr(ready.collect)(params, rollout_state, jax.random.key(0), TABLE)
    stored = [bytes_ / config.batch_size for bytes_ in _stacked_bytes(jaxpr.jaxpr, config.num_steps)]
    assert max(stored) > 8, "the rollout's scan was not found"
    assert max(stored) <= 32


def _stacked_bytes(jaxpr, length):
    """Bytes that each scan of `length` steps stacks up, nested programs included."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan" and equation.params["length"] == length:
            stacked = equation.outvars[equation.params["num_carry"] :]
            yield sum(var.aval.size * var.aval.dtype.itemsize for var in stacked)
        for inner in jaxprs_in_params(equation.params):
            yield from _stacked_bytes(inner, length)


@pytest.mark.parametrize("engine", ENGINES)
def test_metrics_of_the_environment_are_averaged_over_the_rollout(engine):
    # The toy reports its reward as the metric "bet" too.
    _, _, metrics = rollout(configured(engine))
    assert float(metrics["train/bet"]) == pytest.approx(float(metrics["train/reward"]), rel=1e-5)


def test_a_rollout_goes_on_from_where_the_environments_stood():
    config = configured("samples", num_steps=1, minibatch_size=4)
    _, _, rollout_state = parts(config)
    _, batch, _ = rollout(config)
    np.testing.assert_array_equal(batch.observation.row, np.sort(rollout_state.observation.row))


def test_old_log_probabilities_are_those_of_the_actions_taken():
    config = configured("samples")
    graph, params = tiny_network(ENV, TABLE, config, scale=100.0)
    _, batch, _ = rollout(config)
    logits, _ = evaluate_rows(graph, params, TABLE, ENV.first_row, WINDOW, "gather")
    expected = jax.nn.log_softmax(logits)[batch.observation.row, batch.action]
    np.testing.assert_allclose(batch.log_prob, expected, rtol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_noise_alone_moves_no_probability_ratio(engine):
    # Both policies of the ratio see the same noise: with the behaviour policy's parameters it is 1 for every sample.
    config = replace(everything(engine), feature_noise=1.0, context_noise=1.0, dropout=0.5)
    ready, params, _ = parts(config)
    _, batch, _ = rollout(config)
    others = jax.tree.map(lambda x: 1.5 * x, params)

    @jax.jit
    def kl(behaviour_params, batch, table):
        indices = ready.epoch_indices(jax.random.key(1), batch)[0][0]
        return ready.loss(params, behaviour_params, batch, indices, jax.random.key(2), table)[1]["train/kl"]

    assert float(kl(params, batch, TABLE)) == pytest.approx(0.0, abs=1e-6)
    assert float(kl(others, batch, TABLE)) > 1e-3, "other parameters do move it"


def test_a_rollout_of_the_row_engine_allocates_about_32_bytes_a_sample():
    # 15 stored (row, final row, reward: 4 each; action, two flags: 1 each), 4 each for value, next value, advantage and
    # its normalised form: 31. Few rows, so that tables weigh nothing.
    config = configured("rows", num_envs=8192, num_steps=64)
    ready, params, rollout_state = parts(config)
    program = jax.jit(ready.collect).lower(params, rollout_state, jax.random.key(4), TABLE).compile()
    assert program.memory_analysis().temp_size_in_bytes / (8192 * 64) < 33
