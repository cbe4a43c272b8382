"""The command line: defaults, modes, refusals that name the flag."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from jtf.config import (
    MODE_STEPS,
    EnvConfig,
    RewardConfig,
    config_from_dict,
    config_to_dict,
    differing_flags,
    env_params,
    learner_config,
    parse_config,
)
from jtf.errors import UserError
from jtf.results.run_directory import json_ready
from jtf.splits import SplitConfig, split
from jtf_env.errors import LayoutError
from jtf_env.params import REWARD_PRESETS, EnvParams, RewardWeights, make_params
from jtf_ppo.config import PPOConfig

pytestmark = pytest.mark.quick


def parse(*args: str):
    return parse_config(["--symbol", "SPY", *args])


def test_a_symbol_is_enough():
    config = parse()
    assert (config.mode, config.layout, config.data) == ("smoke", "v5.6.0", None)


@pytest.mark.parametrize("mode", MODE_STEPS)
def test_a_mode_sets_the_total_steps(mode):
    assert parse("--mode", mode).ppo.total_steps == MODE_STEPS[mode]


def test_a_mode_changes_nothing_but_the_total_steps():
    smoke, extended = parse().ppo, parse("--mode", "extended").ppo
    assert replace(extended, total_steps=smoke.total_steps) == smoke


def test_total_steps_given_win_over_the_mode():
    assert parse("--mode", "standard", "--ppo.total-steps", "1000").ppo.total_steps == 1000


def test_the_seed_reaches_the_learner():
    assert learner_config(parse("--seed", "7").ppo) == PPOConfig(seed=7)


def test_every_environment_parameter_has_a_flag():
    assert {f.name for f in fields(EnvConfig)} == {f.name for f in fields(EnvParams)}


def test_every_reward_weight_has_a_flag():
    assert {f.name for f in fields(RewardConfig)} - {"preset"} == {f.name for f in fields(RewardWeights)}


@pytest.mark.parametrize("asset_class", ["us_equity", "crypto"])
def test_environment_flags_left_out_are_the_asset_class_defaults(asset_class):
    assert env_params(parse(), asset_class) == make_params(asset_class)


def test_the_default_reward_is_the_log_return_of_equity():
    assert env_params(parse(), "us_equity").reward == EnvParams().reward == REWARD_PRESETS["log_return"]


def test_environment_flags_given_win():
    params = env_params(parse("--env.fee", "0.001", "--env.reward.pnl", "0.7"), "crypto")
    assert (params.fee, params.reward.pnl, params.reward.dsr) == (0.001, 0.7, RewardWeights.dsr)


def test_configurations_survive_json():
    config = parse("--data", "somewhere", "--ppo.hidden-sizes", "32", "16", "--env.fee", "0.001")
    assert config_from_dict(json_ready(config_to_dict(config)), "config.json") == config


def test_a_stored_setting_this_version_does_not_know_is_refused():
    values = config_to_dict(parse())
    values["ppo"]["warp"] = 9
    with pytest.raises(UserError, match=r"config\.json has settings .*warp"):
        config_from_dict(values, "config.json")


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("", "window", "100"),
        ("", "members", None),
        ("", "data", 7),
        ("", "ppo", 3),
        ("ppo", "gamma", "high"),
        ("ppo", "hidden_sizes", [8, "x"]),
        ("env", "fill", "midnight"),
        ("env", "reward", []),
    ],
)
def test_a_stored_setting_of_the_wrong_kind_is_refused_by_name(group, name, value):
    values = config_to_dict(parse())
    (values[group] if group else values)[name] = value
    with pytest.raises(UserError, match=f"config.json has {name}="):
        config_from_dict(values, "config.json")


def test_differences_are_named_by_their_flags():
    assert differing_flags(parse(), parse("--layout", "v5.5.0", "--ppo.gamma", "0.9")) == ["layout", "ppo.gamma"]


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("--ppo.gamma", "2"), "--ppo.gamma"),
        (("--env.fee", "-0.1"), "--env.fee"),
        (("--window", "1"), "--window"),
        (("--symbol", ""), "--symbol"),
        (("--symbol", "../CLSK"), "--symbol"),
        (("--seed", "-1"), "--seed -1"),
        (("--seed", str(2**32)), "--seed 4294967296"),
    ],
)
def test_impossible_values_are_refused_naming_the_flag(args, named):
    with pytest.raises(UserError, match=named):
        parse(*args)


def test_an_unknown_layout_is_refused_naming_the_known_ones():
    with pytest.raises(LayoutError, match=r"v9.*v5\.6\.0"):
        parse("--layout", "v9")


@pytest.mark.parametrize("args", [("--nonsense", "1"), ("--mode", "forever"), ("--ppo.gamma", "x")])
def test_unknown_flags_and_choices_exit_with_code_2(args, capsys):
    with pytest.raises(SystemExit) as exit_info:
        parse(*args)
    assert exit_info.value.code == 2


def test_help_explains_every_setting(capsys):
    with pytest.raises(SystemExit) as exit_info:
        parse("--help")
    text = capsys.readouterr().out
    assert exit_info.value.code == 0
    assert "Discount a step" in text and "--split.embargo" in text and "--ppo.seed" not in text


def test_paths_stay_paths():
    assert config_from_dict(config_to_dict(parse("--data", "x")), "c").data == Path("x")


def test_segments_are_in_order_of_time_with_the_embargo_between():
    parts = split(1_000, first_bar=108, window=8, config=SplitConfig()).segments
    assert parts["train"].start == 108 and parts["test"].stop == 1_000
    assert parts["validation"].start - parts["train"].stop == 24
    assert parts["test"].start - parts["validation"].stop == 24


@pytest.mark.parametrize(("bar_minutes", "hours"), [(5, 48), (15, 16), (60, 4)])
def test_the_embargo_is_the_window_and_four_hours_of_bars_at_every_timeframe(bar_minutes, hours):
    fold = split(1_000, first_bar=108, window=8, config=SplitConfig(), bar_minutes=bar_minutes)
    assert fold.test.start - fold.validation.stop == 8 + hours


def test_segments_have_their_shares():
    parts = split(10_148, first_bar=100, window=8, config=SplitConfig()).segments
    assert [len(part) for part in parts.values()] == [7_000, 1_500, 1_500]


def test_a_history_too_short_for_three_segments_is_refused_with_the_number_needed():
    needed = 108 + 48 + 14
    split(needed + 2, first_bar=108, window=8, config=SplitConfig())
    with pytest.raises(UserError, match=f"at least {needed + 1} are needed"):
        split(160, first_bar=108, window=8, config=SplitConfig())


def test_shares_that_leave_nothing_for_test_are_refused():
    with pytest.raises(UserError, match=r"--split\.train"):
        split(10_000, 108, 8, SplitConfig(train=0.9, validation=0.1))
