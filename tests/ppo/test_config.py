"""Every setting that is refused, and the sizes the device decides."""

import math

import pytest

from jtf_ppo.config import PPOConfig, check_config, resolve
from jtf_ppo.errors import ConfigError

pytestmark = pytest.mark.quick

REFUSED = [
    ("total_steps", 0), ("num_envs", 0), ("num_steps", 0), ("update_epochs", 0), ("minibatch_size", 0),
    ("validation_interval", -1), ("checkpoint_interval", -1), ("patience", -1), ("learning_rate", -1e-4),
    ("ent_coef", -0.1), ("vf_coef", -0.1), ("target_kl", -0.1), ("feature_noise", -1.0), ("context_noise", -1.0),
    ("weight_decay", -0.1), ("seed", -1), ("gamma", 1.1), ("gamma", -0.1), ("gae_lambda", 1.1), ("clip_eps", 0.0),
    ("warmup_fraction", 1.1), ("final_fraction", -0.1), ("dropout", 1.0), ("max_grad_norm", 0.0),
    ("seed", 2**32), ("learning_rate", math.inf),
    ("learning_rate", math.nan), ("gamma", math.nan), ("engine", "fast"), ("first_layer", "winograd"),
    ("precision", "float16"), ("hidden_sizes", ()), ("hidden_sizes", (64, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_a_setting_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=name):
        check_config(PPOConfig(**{name: value}))


def test_the_defaults_pass():
    assert check_config(PPOConfig()) == PPOConfig()


def test_a_rollout_beyond_32_bits_is_refused():
    with pytest.raises(ConfigError, match="num_envs=16777216 times num_steps=128"):
        resolve(PPOConfig(num_envs=2**24), "cpu", True, 1000)


def test_resolving_checks_the_settings():
    with pytest.raises(ConfigError, match="gamma"):
        resolve(PPOConfig(gamma=2.0), "cpu", True, 1000)


def test_the_row_engine_is_refused_for_dense_observations():
    with pytest.raises(ConfigError, match="engine=samples"):
        resolve(PPOConfig(engine="rows"), "cpu", False, 0)


def test_a_minibatch_of_more_rows_than_there_are_is_refused():
    with pytest.raises(ConfigError, match=r"minibatch_size=1001 is larger than the batch \(1000 rows"):
        resolve(PPOConfig(minibatch_size=1001), "cpu", True, 1000)


def test_a_minibatch_of_more_samples_than_a_rollout_is_refused():
    config = PPOConfig(engine="samples", num_envs=4, num_steps=8, minibatch_size=33)
    with pytest.raises(ConfigError, match=r"minibatch_size=33 is larger than the batch \(32 samples"):
        resolve(config, "cpu", True, 1000)


def test_a_minibatch_of_the_whole_rollout_is_allowed():
    config = PPOConfig(engine="samples", num_envs=4, num_steps=8, minibatch_size=32)
    assert resolve(config, "cpu", True, 1000).minibatch_size == 32


@pytest.mark.parametrize(("address_only", "engine"), [(True, "rows"), (False, "samples")])
def test_the_engine_follows_from_the_observation(address_only, engine):
    assert resolve(PPOConfig(), "cpu", address_only, 1000).engine == engine


def test_the_sample_engine_can_be_asked_for_on_addresses():
    assert resolve(PPOConfig(engine="samples"), "cpu", True, 1000).engine == "samples"


@pytest.mark.parametrize(
    ("platform", "hidden", "precision"),
    [("cpu", (64,), "float32"), ("gpu", (512, 256, 128), "bfloat16")],
)
def test_the_device_decides_width_and_precision(platform, hidden, precision):
    config = resolve(PPOConfig(total_steps=10**8), platform, True, 140_000)
    assert (config.hidden_sizes, config.precision) == (hidden, precision)


@pytest.mark.parametrize(("platform", "method"), [("cpu", "fft"), ("gpu", "gather")])
def test_the_device_decides_how_the_first_layer_is_computed(platform, method):
    assert resolve(PPOConfig(), platform, True, 1000).first_layer == method


def test_noise_of_one_deviation_on_the_features_and_none_on_the_context_is_the_default():
    assert (PPOConfig().feature_noise, PPOConfig().context_noise) == (1.0, 0.0)


def test_patience_without_validations_is_refused():
    with pytest.raises(ConfigError, match="`patience` counts validations"):
        resolve(PPOConfig(patience=3, validation_interval=0), "cpu", True, 1000)


def test_a_gpu_steps_more_environments_in_larger_minibatches():
    sizes = [resolve(PPOConfig(total_steps=10**8), platform, True, 140_000) for platform in ("cpu", "gpu")]
    assert sizes[0].num_envs < sizes[1].num_envs
    assert sizes[0].minibatch_size < sizes[1].minibatch_size


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_nothing_is_left_undecided(platform):
    config = resolve(PPOConfig(), platform, True, 1000)
    assert None not in vars(config).values()
    assert "auto" not in vars(config).values()


def test_what_the_user_chose_is_kept():
    chosen = PPOConfig(
        num_envs=7, minibatch_size=5, hidden_sizes=(3,), precision="bfloat16", first_layer="conv", engine="samples",
        validation_interval=4, steps_at_once=2, flat_parameters=True, checkpoint_interval=9,
    )  # fmt: skip
    assert resolve(chosen, "cpu", True, 1000) == chosen


def test_a_short_run_still_has_twelve_updates():
    # 200 000 steps // (12 updates * 128 steps) = 130, rounded down to a power of two: 128 environments, 13 updates.
    config = resolve(PPOConfig(total_steps=200_000), "cpu", True, 10_000)
    assert (config.num_envs, config.total_updates) == (128, 13)


def test_a_run_validates_about_ten_times():
    config = resolve(PPOConfig(total_steps=10**6, num_envs=64), "cpu", True, 10_000)
    # ceil(1e6 / 8192) = 123 updates: every 12.
    assert (config.total_updates, config.validation_interval, config.checkpoint_interval) == (123, 12, 12)


def test_an_interval_of_zero_stays_zero():
    config = resolve(PPOConfig(validation_interval=0, checkpoint_interval=0), "cpu", True, 10_000)
    assert (config.validation_interval, config.checkpoint_interval) == (0, 0)


def test_the_last_update_reaches_the_total():
    config = PPOConfig(total_steps=100, num_envs=3, num_steps=7)
    # ceil(100 / 21) = 5 updates, 105 steps.
    assert config.total_updates == 5
