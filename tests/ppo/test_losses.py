"""The objective by bars is the objective by samples: same value, same gradient of everything."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jtf_ppo.advantage import normalise
from jtf_ppo.config import PPOConfig
from jtf_ppo.losses import RowSums, SampleBatch, entropy, row_loss, sample_loss
from jtf_ppo.rows import sum_by_row
from tests.ppo.toy import address_of, assert_trees_close, make_rows, row_environment, tiny_config, tiny_network

ROWS, ACTIONS, SAMPLES = 30, 4, 200
CONFIG = PPOConfig(ent_coef=0.1, vf_coef=0.7)


def random_batch(dtype: type, shift: float = 0.0, scale: float = 1.0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Samples on rows 0..19 (so 20..29 stay unvisited, others repeat) and the policy that took them.

    `shift` moves all advantages; `scale` spreads the old policy, and with it the ratios.
    """
    rng = np.random.default_rng(0)
    old = scale * rng.normal(size=(ROWS, ACTIONS))
    old -= np.log(np.exp(old).sum(axis=1, keepdims=True))
    rows, actions = rng.integers(0, 20, SAMPLES), rng.integers(0, ACTIONS, SAMPLES)
    samples = {
        "observation": rows.astype(np.int32),
        "action": actions.astype(np.int32),
        "log_prob": old[rows, actions].astype(dtype),
        "advantage": (rng.normal(size=SAMPLES) + shift).astype(dtype),
        "target": rng.normal(size=SAMPLES).astype(dtype),
    }
    return samples, old.astype(dtype)


def sums_of(samples: dict[str, np.ndarray], old: np.ndarray, values: np.ndarray, rows: int) -> dict[str, np.ndarray]:
    """The sums per row, added up one sample at a time."""
    dtype, actions = old.dtype, old.shape[1]
    sums = {
        "positive_advantage": np.zeros((rows, actions), dtype), "negative_advantage": np.zeros((rows, actions), dtype),
        "samples": np.zeros(rows, dtype), "residual": np.zeros(rows, dtype), "residual_square": np.zeros(rows, dtype),
        "values": values, "log_probs": old,
    }  # fmt: skip
    for row, action, advantage, target in zip(
        samples["observation"], samples["action"], samples["advantage"], samples["target"], strict=True
    ):
        sums["positive_advantage" if advantage > 0 else "negative_advantage"][row, action] += advantage
        sums["samples"][row] += 1
        sums["residual"][row] += target - values[row]
        sums["residual_square"][row] += (target - values[row]) ** 2
    return sums


@jax.jit
def value_and_gradients(logits, values, batch, sums):
    """``(loss, gradient of logits and values)`` of the sample form and of the bar form."""

    def by_samples(logits, values):
        rows = batch.observation
        return sample_loss(logits[rows], values[rows], batch, jnp.ones_like(batch.target), CONFIG)[0]

    def by_rows(logits, values):
        return row_loss(logits, values, sums, jnp.ones_like(values), jnp.asarray(SAMPLES, values.dtype), CONFIG)[0]

    return [jax.value_and_grad(loss, argnums=(0, 1))(logits, values) for loss in (by_samples, by_rows)]


def both_losses(dtype: type, shift: float, scale: float):
    """The two forms for a random new policy."""
    samples, old = random_batch(dtype, shift, scale)
    rng = np.random.default_rng(1)
    logits, values = (scale * rng.normal(size=(ROWS, ACTIONS))).astype(dtype), rng.normal(size=ROWS).astype(dtype)
    old_values = rng.normal(size=ROWS).astype(dtype)
    sums = sums_of(samples, old, old_values, ROWS)
    return value_and_gradients(logits, values, SampleBatch(**samples), RowSums(**sums))


# A shift of 10 makes every advantage positive, -10 every one negative; a scale of 3 spreads the ratios.
CASES = [(0.0, 1.0), (0.0, 3.0), (10.0, 1.0), (-10.0, 1.0), (10.0, 3.0), (-10.0, 3.0)]


@pytest.mark.parametrize(("shift", "scale"), CASES)
def test_bar_loss_equals_sample_loss_in_float32(shift, scale):
    by_samples, by_rows = both_losses(np.float32, shift, scale)
    assert_trees_close(by_rows, by_samples, 1e-5)


@pytest.mark.parametrize(("shift", "scale"), CASES)
def test_bar_loss_equals_sample_loss_in_float64(shift, scale):
    with jax.enable_x64(True):
        by_samples, by_rows = both_losses(np.float64, shift, scale)
        assert by_rows[0].dtype == jnp.float64
        assert_trees_close(by_rows, by_samples, 1e-10)


def test_the_random_ratios_reach_far_beyond_both_sides_of_the_clip():
    samples, old = random_batch(np.float64, 0.0, 3.0)
    new = 3.0 * np.random.default_rng(1).normal(size=(ROWS, ACTIONS))
    new -= np.log(np.exp(new).sum(axis=1, keepdims=True))
    ratio = np.exp(new - old)[samples["observation"], samples["action"]]
    assert ratio.min() < 0.01
    assert ratio.max() > 100.0


def test_an_unvisited_row_gets_no_gradient():
    _, (_, (logits, values)) = both_losses(np.float32, 0.0, 1.0)
    assert not np.asarray(logits[20:]).any()
    assert not np.asarray(values[20:]).any()


# A step of 0.1 leaves most ratios within the clip, one of 1 spreads them to both sides of it.
@pytest.mark.parametrize("moved", [0.1, 1.0])
def test_gradient_of_every_network_parameter_is_the_same(moved):
    env, table = row_environment(), make_rows(40, 1)
    config = tiny_config(env, 40)
    graph, old = tiny_network(env, table, config, scale=100.0)
    rng = np.random.default_rng(2)
    params = jax.tree.map(lambda x: x + moved * rng.normal(size=x.shape).astype(np.float32), old)
    rows, actions = rng.integers(4, 30, 100).astype(np.int32), rng.integers(0, 3, 100).astype(np.int32)
    advantage = rng.normal(size=100).astype(np.float32)
    everything = np.arange(40, dtype=np.int32)
    usable = (everything >= env.first_row).astype(np.float32)

    @jax.jit
    def gradients(params, old, table):
        logits, values = nnx.merge(graph, old)(address_of(everything), table)
        log_probs = jax.nn.log_softmax(logits)
        sums = sum_by_row(rows, actions, advantage, values, log_probs)
        batch = SampleBatch(
            rows, actions, log_probs[rows, actions], normalise(jnp.asarray(advantage)), advantage + values[rows]
        )

        def by_samples(params):
            logits, values = nnx.merge(graph, params)(address_of(batch.observation), table)
            return sample_loss(logits, values, batch, jnp.ones(100), config)[0]

        def by_rows(params):
            logits, values = nnx.merge(graph, params)(address_of(everything), table)
            return row_loss(logits, values, sums, usable, jnp.float32(100), config)[0]

        return [jax.value_and_grad(loss)(params) for loss in (by_samples, by_rows)]

    by_samples, by_rows = gradients(params, old, table)
    assert_trees_close(by_rows, by_samples, 1e-5)


def test_a_policy_that_all_but_excluded_an_action_nobody_took_has_a_finite_loss():
    # Its ratio is e^200, more than float32 holds, and its sums are zero.
    old = np.asarray([[-200.0, 0.0]], np.float32)
    zero, one = np.zeros(1, np.int32), np.ones(1, np.int32)
    samples = {"observation": zero, "action": one, "log_prob": old[:, 1]}
    samples |= {"advantage": np.float32([2.0]), "target": np.float32([3.0])}
    sums = RowSums(**sums_of(samples, old, np.zeros(1, np.float32), 1))
    by_samples, by_rows = value_and_gradients(
        np.zeros((1, 2), np.float32), np.ones(1, np.float32), SampleBatch(**samples), sums
    )
    # One sample, where the helper divides the sums of SAMPLES.
    assert_trees_close(jax.tree.map(lambda x: x * SAMPLES, by_rows), by_samples, 1e-5)


def test_large_values_leave_no_rounding_in_the_value_loss_of_bars():
    # Ten thousand targets about 100 on one row, and a value 0.01 beside their mean.
    rng = np.random.default_rng(5)
    advantage = rng.normal(scale=0.1, size=(100, 100)).astype(np.float32)
    rows, old = np.zeros((100, 100), np.int32), jnp.full(1, 100.0)
    sums = sum_by_row(rows, rows.astype(np.int8), advantage, old, jnp.zeros((1, 1)))
    mean = float(100.0 + advantage.mean(dtype=np.float64))
    _, metrics = row_loss(jnp.zeros((1, 1)), jnp.full(1, mean + 0.01), sums, jnp.ones(1), jnp.float32(10_000), CONFIG)
    residual = np.float64(np.float32(mean + 0.01)) - (100.0 + advantage.astype(np.float64))
    assert float(metrics["loss/value"]) == pytest.approx(float(np.square(residual).mean() / 2), rel=1e-4)


def one_sample(ratio: float, advantage: float) -> tuple[float, dict[str, float]]:
    """Loss of one sample of a two-action policy whose action had probability .4 and now has ``.4 * ratio``."""
    probability = 0.4 * ratio
    logits = np.log([[probability, 1.0 - probability]]).astype(np.float32)
    zero = np.zeros(1, np.int32)
    batch = SampleBatch(zero, zero, *(np.asarray([x], np.float32) for x in (np.log(0.4), advantage, 3.0)))
    config = PPOConfig(clip_eps=0.2, vf_coef=0.5, ent_coef=0.1)
    one = np.ones(1, np.float32)
    loss, metrics = jax.jit(sample_loss, static_argnums=4)(logits, one, batch, one, config)
    return float(loss), {name: float(value) for name, value in metrics.items()}


@pytest.mark.parametrize(
    ("ratio", "advantage", "policy"),
    [
        # min(rho A, clip(rho) A) with eps = .2
        (1.5, 2.0, -2.4),  # min(3.0, 2.4)
        (0.5, 2.0, -1.0),  # min(1.0, 1.6)
        (1.5, -2.0, 3.0),  # min(-3.0, -2.4)
        (0.5, -2.0, 1.6),  # min(-1.0, -1.6)
    ],
)
def test_the_clipped_surrogate_equals_hand_numbers(ratio, advantage, policy):
    assert one_sample(ratio, advantage)[1]["loss/policy"] == pytest.approx(policy, rel=1e-5)


def test_the_loss_is_policy_plus_weighted_value_minus_weighted_entropy():
    # ratio 1, advantage 2: policy -2; value (1 - 3)^2 / 2 = 2; entropy of (.4, .6) = .673012.
    loss, metrics = one_sample(1.0, 2.0)
    assert metrics["loss/value"] == pytest.approx(2.0)
    assert metrics["train/entropy"] == pytest.approx(0.673012, rel=1e-5)
    assert loss == pytest.approx(-2.0 + 0.5 * 2.0 - 0.1 * 0.673012, rel=1e-5)


def test_padding_of_a_sample_minibatch_has_no_weight():
    samples, _ = random_batch(np.float32)
    batch = SampleBatch(**samples)
    rng = np.random.default_rng(3)
    logits, values = rng.normal(size=(SAMPLES, ACTIONS)), rng.normal(size=SAMPLES)
    weight = (np.arange(SAMPLES) < 150).astype(np.float32)
    loss = jax.jit(sample_loss, static_argnums=4)
    padded = loss(logits, values, batch, weight, CONFIG)
    real = loss(logits[:150], values[:150], jax.tree.map(lambda x: x[:150], batch), weight[:150], CONFIG)
    assert_trees_close(padded, real, 1e-5)


def test_entropy_of_a_uniform_policy_is_the_logarithm_of_the_actions():
    assert float(entropy(jnp.full(8, -np.log(8.0)))) == pytest.approx(np.log(8.0))


def test_bar_kl_is_the_divergence_from_the_old_policy():
    # Old (.5, .5), new (.8, .2), one sample: .5 ln(.5/.8) + .5 ln(.5/.2) = .223144.
    zero = jnp.zeros((1, 2))
    sums = RowSums(zero, zero, jnp.ones(1), *(jnp.zeros(1),) * 3, jnp.log(jnp.full((1, 2), 0.5)))
    logits = jnp.log(jnp.asarray([[0.8, 0.2]]))
    _, metrics = row_loss(logits, jnp.zeros(1), sums, jnp.ones(1), jnp.asarray(1.0), CONFIG)
    assert float(metrics["train/kl"]) == pytest.approx(0.223144, rel=1e-5)
