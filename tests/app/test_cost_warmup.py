"""Training costs rise from 0 to full; whatever is shown, validated or lengthened sees full costs."""

import json
from dataclasses import replace

import jax.numpy as jnp
import pytest

from jtf.config import RunConfig, parse_config
from jtf.environment import CostWarmup, on_device
from jtf.errors import UserError
from jtf.task import cost_warmup, prepare
from jtf_env.params import make_params

PARAMS = on_device(make_params("crypto"))


@pytest.fixture(scope="module")
def task(tiny_args, tmp_path_factory):
    return prepare(parse_config([*tiny_args, "--out", str(tmp_path_factory.mktemp("runs"))]))


@pytest.mark.parametrize(("progress", "size"), [(0.0, 0.0), (0.15, 0.25), (0.3, 0.5), (0.6, 1.0), (0.9, 1.0)])
def test_fee_and_slippage_rise_linearly_over_the_share_of_the_run(progress, size):
    (market, params), metrics = CostWarmup(0.6)((None, PARAMS), jnp.float32(progress))
    assert market is None
    assert params.fee == pytest.approx(size * float(PARAMS.fee)) and metrics["train/cost_share"] == pytest.approx(size)
    assert params.slippage == pytest.approx(size * float(PARAMS.slippage))


def test_full_costs_are_the_parameters_bit_for_bit():
    (_, params), _ = CostWarmup(0.6)((None, PARAMS), jnp.float32(0.75))
    assert params == PARAMS


def test_every_update_records_its_share_of_the_costs(trained_run):
    records = map(json.loads, (trained_run / "metrics.jsonl").read_text().splitlines())
    shares = [record["train/cost_share"] for record in records if "train/kl" in record]
    assert shares == pytest.approx([0.0, 0.25, 0.5, 0.75])


def test_validation_and_backtest_are_at_full_costs(task):
    assert task.problem.environment.schedule == CostWarmup(1.0)
    assert float(task.problem.validation.data.params.slippage) == pytest.approx(task.params.slippage)
    assert task.params == replace(make_params("crypto"), fee=0.0, episode_bars=64)


def test_a_warmup_of_zero_leaves_no_schedule(tiny_args):
    assert prepare(parse_config([*tiny_args, "--cost-warmup", "0"])).problem.environment.schedule is None


def test_a_lengthened_run_begins_at_full_costs(tmp_path):
    assert cost_warmup(RunConfig()) == 1.0
    assert cost_warmup(RunConfig(continue_from=tmp_path)) == 0.0


def test_runs_of_other_warmups_do_not_share_checkpoints(task):
    other = replace(task, config=replace(task.config, cost_warmup=0.5))
    assert other.settings_sha256 != task.settings_sha256


@pytest.mark.parametrize("share", ["-0.1", "1.5", "nan"])
def test_a_warmup_outside_the_run_is_refused(share, tiny_args):
    with pytest.raises(UserError, match="--cost-warmup"):
        parse_config([*tiny_args, "--cost-warmup", share])
