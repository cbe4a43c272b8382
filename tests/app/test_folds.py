"""Folds are data: markets of several stretches and padding train in one compiled program."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtf.data.synthetic import synthetic_bars
from jtf.environment import ValidationData, at_first_bars, first_bars_share, row_table, trade_once
from jtf.problem import make_problem
from jtf.splits import Fold, Segment
from jtf_env.actions import BUY_75, HOLD
from jtf_env.layouts import GROUPS, Layout
from jtf_env.market import build_market
from jtf_env.params import make_params
from jtf_ppo import PPOConfig, resolve, train
from jtf_ppo.hyper import make_hyper
from jtf_ppo.learner import make_learner

WINDOW = 10
NATURAL = build_market(synthetic_bars("CLSK", years=0.2), window=WINDOW, dtype=jnp.float64)
OTHER = build_market(synthetic_bars("AAA", years=0.18), window=WINDOW, dtype=jnp.float64)
PARAMS = make_params("us_equity", "log_return", episode_bars=40)
FIRST = NATURAL.first_bar
WHOLE = Fold((Segment(FIRST, FIRST + 420),), Segment(FIRST + 450, FIRST + 550), Segment(FIRST + 580, FIRST + 700))
LATER = Fold((Segment(FIRST + 60, FIRST + 500),), Segment(FIRST + 530, FIRST + 660), Segment(FIRST + 690, FIRST + 800))
HOLED = Fold(
    (Segment(FIRST, FIRST + 150), Segment(FIRST + 230, FIRST + 460)),
    Segment(FIRST + 490, FIRST + 600),
    Segment(FIRST + 160, FIRST + 200),
)
LENGTHS = (512, 160)
SETTINGS = PPOConfig(
    total_steps=4 * 128, num_envs=16, num_steps=8, update_epochs=2, minibatch_size=128, hidden_sizes=(8,),
    validation_interval=1, checkpoint_interval=0,
)  # fmt: skip


def problem_of(natural, fold, lengths=LENGTHS):
    return make_problem(natural, fold, PARAMS, 6_552, lengths=lengths)


def settings_for(problem, **changes):
    return resolve(replace(SETTINGS, **changes), "cpu", problem.environment.address_only, problem.usable_rows)


def trained(problem, **changes):
    (member,) = train(
        problem.environment, problem.data, settings_for(problem, **changes), validation=problem.validation
    ).members
    return member


def traced_once(function):
    """`function`, compiled; a second trace raises."""
    traces = []

    def traced(*arguments):
        traces.append(None)
        assert len(traces) == 1, "traced again"
        return function(*arguments)

    return jax.jit(traced)


def test_two_symbols_two_folds_and_a_fold_with_a_hole_share_one_compiled_update():
    problems = [
        problem_of(NATURAL, WHOLE),
        problem_of(OTHER, WHOLE),
        problem_of(NATURAL, LATER),
        problem_of(NATURAL, HOLED),
    ]
    config = settings_for(problems[0])
    learner = make_learner(problems[0].environment, config)
    update = traced_once(learner.update)
    validate = traced_once(lambda p, data: problems[0].validation.run(learner.evaluate(p), data))
    scores = set()
    for problem in problems:
        assert make_learner(problem.environment, settings_for(problem)) is learner
        state = jax.jit(learner.init)(jax.random.key(0), problem.data)
        state, _ = update(state, make_hyper(config), problem.data)
        scores.add(float(validate(state.params, problem.validation.data)["total_return"]))
    assert len(scores) == len(problems), "every problem was trained on its own bars"


def test_settings_that_are_no_shapes_share_one_compiled_update():
    problem = problem_of(NATURAL, WHOLE)
    base = settings_for(problem)
    update = traced_once(make_learner(problem.environment, base).update)
    state = jax.jit(make_learner(problem.environment, base).init)(jax.random.key(0), problem.data)
    changes = [
        {}, {"learning_rate": 1e-2}, {"clip_eps": 1e-4}, {"gamma": 0.9}, {"gae_lambda": 0.5}, {"ent_coef": 0.1},
        {"feature_noise": 2.0}, {"vf_coef": 1.0}, {"max_grad_norm": 0.01}, {"warmup_fraction": 0.9},
    ]  # fmt: skip
    ends = set()
    for change in changes:
        config = replace(base, **change)
        assert make_learner(problem.environment, config) is make_learner(problem.environment, base)
        after, _ = update(state, make_hyper(config), problem.data)
        ends.add(np.asarray(after.params["first"]["kernel"][...]).tobytes())
    assert len(ends) == len(changes), "every setting has an effect"


@pytest.mark.parametrize("engine", ["rows", "samples"])
@pytest.mark.parametrize("garbage", [np.nan, 1e30])
def test_garbage_in_the_padding_changes_no_bit(engine, garbage):
    clean = problem_of(NATURAL, WHOLE)
    dirty = replace(
        clean,
        data=(spoilt(clean.data[0], garbage), clean.data[1]),
        validation=replace(
            clean.validation,
            data=clean.validation.data._replace(market=spoilt(clean.validation.data.market, garbage)),
        ),
    )
    one, other = trained(clean, engine=engine), trained(dirty, engine=engine)
    jax.tree.map(np.testing.assert_array_equal, (one.params, one.best_params), (other.params, other.best_params))
    assert one.validation == pytest.approx(other.validation, nan_ok=True, rel=0, abs=0)


def spoilt(market, garbage):
    """`market` with this number in every column of its padding."""
    padding = np.arange(market.num_bars) > int(np.asarray(market.segment_end).max())
    assert padding.sum() > 40, "there is padding in this test"

    def spoil(column):
        column = np.array(column)
        column[padding] = garbage
        return jnp.asarray(column)

    return replace(
        market, **{n: spoil(getattr(market, n)) for n in ("features", "context", "open", "high", "low", "close")}
    )


def test_padded_and_unpadded_runs_with_the_same_partition_agree():
    # 421 usable rows fill 30 blocks of 15 with their offset, 430 do too: the minibatches are the same rows.
    exact = problem_of(NATURAL, WHOLE, lengths=None)
    padded = problem_of(NATURAL, WHOLE, lengths=(exact.data[0].num_bars + 8, LENGTHS[1]))
    one, other = trained(exact), trained(padded)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert one.validation["total_return"] == pytest.approx(other.validation["total_return"], rel=1e-5)


def test_no_episode_of_a_fold_with_a_hole_visits_the_hole():
    problem = problem_of(NATURAL, HOLED)
    market, _ = problem.data
    env, usable = problem.environment, np.asarray(market.segment_end) >= 0
    state, seen = env.reset(jax.random.key(0), 64, problem.data)
    step = jax.jit(env.step)
    visited = [np.asarray(seen.row)]
    for k in range(200):
        bits = jax.random.bits(jax.random.key(k), (64,), jnp.uint32)
        before = np.asarray(state.bar)
        state, timestep = step(bits, state, jnp.full(64, BUY_75, jnp.int32), problem.data)
        ended = np.asarray(timestep.terminated | timestep.truncated)
        final = np.asarray(timestep.final_observation.row)
        assert (np.asarray(market.segment_end)[before] == np.asarray(market.segment_end)[final]).all()
        assert ended[final == np.asarray(market.segment_end)[before]].all()
        visited.append(np.asarray(timestep.observation.row))
    rows = np.unique(np.concatenate(visited))
    assert usable[rows].all()
    windows = rows[:, None] + np.arange(1 - WINDOW, 1)
    hole = np.arange(WINDOW - 1 + 150, WINDOW - 1 + 230 - (WINDOW - 1))
    assert not np.isin(windows, hole).any()


@pytest.mark.parametrize("episode_bars", [40, 200, 0])
@pytest.mark.parametrize("fold", [WHOLE, HOLED], ids=["whole", "holed"])
def test_every_decision_row_is_visited_equally_often(fold, episode_bars):
    problem = problem_of(NATURAL, fold)
    market, params = problem.data
    data, num_envs = (market, replace(params, episode_bars=jnp.int32(episode_bars))), 512

    @jax.jit
    def visits(key):
        state, _ = problem.environment.reset(key, num_envs, data)

        def step(state, key):
            bits = jax.random.bits(key, (num_envs,), jnp.uint32)
            return problem.environment.step(bits, state, jnp.zeros(num_envs, jnp.int32), data)[0], state.bar

        _, rows = jax.lax.scan(step, state, jax.random.split(key, 800))
        return jnp.bincount(rows.reshape(-1), length=market.num_bars)

    count = np.asarray(visits(jax.random.key(0)))
    decides = np.asarray(market.segment_end) > np.arange(market.num_bars)
    assert not count[~decides].any()
    # 512 x 800 visits over some 400 rows: 1 000 each.
    assert count[decides].min() > 0.7 * count[decides].mean()
    assert count[decides].max() < 1.3 * count[decides].mean()


def test_the_first_bars_of_a_stretch_are_a_window_of_each():
    problem = problem_of(NATURAL, HOLED)
    market, share = problem.data[0], first_bars_share(problem.data[0])
    decides = np.flatnonzero(np.asarray(market.segment_end) > np.arange(market.num_bars))
    first = np.asarray(at_first_bars(jnp.asarray(decides), market))
    assert first.sum() == 2 * (WINDOW - 1)
    assert share == pytest.approx(first.sum() / (149 + 229))


def test_a_pass_over_two_stretches_compounds_them_and_trades_nothing_between():
    problem = problem_of(NATURAL, HOLED)
    market, params = problem.data
    params = replace(params, episode_bars=jnp.int32(0))
    whole = trade_once(lambda state: jnp.int32(BUY_75), market, params)
    parts = []
    for stretch in HOLED.train:
        alone = make_problem(NATURAL, replace(HOLED, train=(stretch,)), PARAMS, 6_552)
        parts.append(
            trade_once(lambda state: jnp.int32(BUY_75), alone.data[0], params).equity[-1] / params.initial_equity
        )
    assert float(whole.equity[-1] / params.initial_equity) == pytest.approx(float(parts[0] * parts[1]), rel=1e-5)
    in_hole = slice(150, 229)
    assert not np.asarray(whole.counts)[in_hole].any()
    assert not np.asarray(whole.position)[in_hole].any()


def test_rows_that_no_decision_reads_are_zero_in_the_table():
    problem = problem_of(NATURAL, HOLED)
    table = row_table(problem.data)
    read = np.zeros(LENGTHS[0], bool)
    for row in np.flatnonzero(np.asarray(table.usable)):
        read[row - WINDOW + 1 : row + 1] = True
    assert not np.asarray(table.features)[~read].any()
    np.testing.assert_array_equal(table.features[read], np.asarray(problem.data[0].features)[read])


def test_training_episodes_do_not_all_end_in_the_same_update():
    problem = problem_of(NATURAL, WHOLE)
    state, _ = problem.environment.reset(jax.random.key(1), 256, problem.data)
    ages = np.asarray(state.steps)
    assert ages.min() >= 0 and ages.max() < PARAMS.episode_bars
    # 256 uniform draws of 40 ages: the chance to miss more than 5 is below 1e-6.
    assert len(np.unique(ages)) >= 35


TOY = Layout("toy", (GROUPS["base6"], GROUPS["account3"], GROUPS["position3"]))


def test_a_network_with_account_columns_trains_and_uses_them():
    natural = build_market(synthetic_bars("CLSK", years=0.2), TOY, window=WINDOW, dtype=jnp.float64)
    fold = Fold((Segment(natural.first_bar, natural.first_bar + 420),), Segment(600, 700), Segment(750, 800))
    problem = make_problem(natural, fold, PARAMS, 6_552)
    assert problem.environment.num_account == 6
    config = settings_for(problem, engine="auto")
    assert config.engine == "samples"
    (member,) = train(problem.environment, problem.data, config, validation=problem.validation).members
    fresh = jax.jit(make_learner(problem.environment, config).init)(jax.random.key(0), problem.data)
    before, after = np.asarray(fresh.params["first"]["context_kernel"][...]), member.params["first"]["context_kernel"]
    assert after.shape == (6, 8)
    assert (after != before).all(), "every account column moved"


def test_validation_asks_a_policy_with_account_columns_bar_by_bar():
    # The policy holds once it has a position: what it does depends on what it did.
    natural = build_market(synthetic_bars("CLSK", years=0.2), TOY, window=WINDOW, dtype=jnp.float64)
    fold = Fold((Segment(natural.first_bar, natural.first_bar + 420),), Segment(600, 700), Segment(750, 800))
    problem = make_problem(natural, fold, PARAMS, 6_552)

    class Once:
        @staticmethod
        def on(table):
            def outputs(observation):
                flat = observation.account[:, 3] == 0.0
                logits = jnp.zeros((1, 8)).at[0, BUY_75].set(jnp.where(flat[0], 1.0, -1.0))
                return logits.at[0, HOLD].set(0.0), jnp.zeros(1)

            return outputs

    metrics = problem.validation.run(Once(), ValidationData(*problem.validation.data))
    assert float(metrics["traded_share"]) == pytest.approx(1 / 99)
    assert float(metrics["hold_share"]) == pytest.approx(98 / 99)
