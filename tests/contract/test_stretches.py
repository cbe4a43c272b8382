"""Markets of several stretches and padding: where episodes start, where they end, what they never see."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jtf_env import environment
from jtf_env.errors import BarsError, InputError
from jtf_env.market import fold_market, market_segment
from jtf_env.mirror import environment as mirror_environment
from jtf_env.mirror import market as mirror_market
from jtf_env.mirror.backtest import replay, run_backtest
from jtf_env.params import EnvParams
from jtf_env.stretches import ROW_FIELDS, stretch_rows
from tests.contract.helpers import make_markets, random_prices

pytestmark = pytest.mark.quick

WINDOW, BARS = 3, 300
STRETCHES = ((20, 90), (92, 94), (150, 260))
"""The second one is as short as a stretch may be, and as near to the first as its window allows."""
PARAMS = EnvParams(fee=0.001, stop_loss=0.01, take_profit=0.02, episode_bars=0, max_drawdown=1.0)
LENGTH = 320


@pytest.fixture(scope="module")
def markets():
    return make_markets(random_prices(BARS, seed=4, untradable=0.05), WINDOW)


@pytest.fixture(scope="module")
def folds(markets):
    return fold_market(markets[0], STRETCHES, LENGTH), mirror_market.fold_market(markets[1], STRETCHES, LENGTH)


@jax.jit
def walk(market, starts, actions, restarts):
    """Play ``actions [N, B]`` from ``starts [B]``: ``[N, B]`` rows decided at, and results and rows stepped to."""

    def one(state, inputs):
        action, bits = inputs
        after, result, final = jax.vmap(environment.autoreset_step_at, (0, 0, 0, None, None))(
            environment.start_row(bits, market), state, action, market, PARAMS
        )
        observation = jax.vmap(environment.observe, (None, 0, None))(market, state, PARAMS)
        return after, (state.bar, result, final, observation)

    state = jax.vmap(environment.reset_at, (0, None, None))(starts, market, PARAMS)
    return jax.lax.scan(one, state, (actions, restarts))[1]


def random_walk(market, seed, num_envs=64, steps=150):
    rng = np.random.default_rng(seed)
    bits = jnp.asarray(rng.integers(0, 2**32, (steps + 1, num_envs), np.uint32))
    actions = jnp.asarray(rng.integers(0, 8, (steps, num_envs)), jnp.int32)
    return jax.device_get(walk(market, environment.start_row(bits[0], market), actions, bits[1:]))


def moved(stretches=STRETCHES, window=WINDOW):
    """The stretches as rows of their fold."""
    offset = stretches[0][0] - (window - 1)
    return [(start - offset, stop - offset) for start, stop in stretches]


def outside(market):
    """``[T]`` bool, rows that no decision, window or step may read: holes without the history, and padding."""
    unseen = np.ones(market.num_bars, bool)
    for start, stop in moved():
        unseen[start - (WINDOW - 1) : stop] = False
    return unseen


def spoil(market, number):
    """`market` with `number` in every table on the rows nothing may read, tradable there."""
    rows = jnp.asarray(outside(market))
    spoiled = {}
    for name in ROW_FIELDS:
        column = getattr(market, name)
        mask = rows.reshape(-1, *[1] * (column.ndim - 1))
        spoiled[name] = jnp.where(mask, True if name == "tradable" else number, column)
    past = jnp.arange(market.num_bars) >= market.num_starts
    return replace(market, **spoiled, start_rows=jnp.where(past, jnp.int32(market.num_bars - 1), market.start_rows))


def test_no_episode_crosses_the_end_of_its_stretch(folds):
    market = folds[0]
    bars, result, final, _ = random_walk(market, 0)
    ends = np.asarray(market.segment_end)
    assert (final.bar == bars + 1).all() and (ends[final.bar] == ends[bars]).all() and (ends[bars] >= 0).all()
    np.testing.assert_array_equal(result.truncated, final.bar == ends[bars])
    stretch = np.searchsorted([start for start, _ in moved()], bars, "right") - 1
    assert set(np.unique(stretch)) == {0, 1, 2} and result.truncated.sum() > 100


def test_a_step_to_the_row_that_follows_is_the_step(folds):
    market = folds[0]
    rows = jnp.asarray(np.flatnonzero(np.arange(market.num_bars) < np.asarray(market.segment_end)), jnp.int32)
    state = jax.vmap(environment.reset_at, (0, None, None))(rows, market, PARAMS)
    actions = rows % 8
    known = jax.jit(jax.vmap(environment.step_to, (0, 0, 0, None, None)))(rows + 1, state, actions, market, PARAMS)
    asked = jax.jit(jax.vmap(environment.step, (0, 0, None, None)))(state, actions, market, PARAMS)
    chex.assert_trees_all_equal(known, asked)


def test_the_window_of_every_decision_lies_between_the_history_and_the_end_of_its_stretch(folds):
    market = folds[0]
    bars, _, final, _ = random_walk(market, 1)
    unseen = outside(market)
    for row in np.unique(np.r_[bars.ravel(), final.bar.ravel()]):
        assert not unseen[row - (WINDOW - 1) : row + 1].any()


@pytest.mark.parametrize("number", [np.nan, 1e30])
def test_garbage_in_padding_and_holes_changes_no_bit_of_any_step_observation_or_reset(folds, number):
    market = folds[0]
    spoiled = spoil(market, number)
    chex.assert_trees_all_equal(random_walk(market, 2), random_walk(spoiled, 2))
    keys = jax.random.split(jax.random.key(0), 512)
    reset = jax.jit(jax.vmap(environment.reset, (0, None, None)))
    chex.assert_trees_all_equal(reset(keys, market, PARAMS), reset(keys, spoiled, PARAMS))


def mirror_walk(market, starts, actions, restarts):
    """Play ``actions [N]`` from the start row of `starts`; per step: row stepped to, ending, equity, observation."""
    state = mirror_environment.reset_at(mirror_environment.start_row(starts, market), market, PARAMS)
    rows = []
    for action, bits in zip(actions, restarts, strict=True):
        observation = mirror_environment.observe(market, state, PARAMS)
        start = mirror_environment.start_row(bits, market)
        state, result, final = mirror_environment.autoreset_step_at(start, state, action, market, PARAMS)
        rows.append((final.bar, result.truncated, final.equity, observation.sum()))
    return np.array(rows)


@pytest.mark.parametrize("number", [np.nan, 1e30])
def test_the_mirror_walks_the_same_rows_and_reads_neither_padding_nor_holes(folds, number):
    device, mirrored = folds
    _, result, final, _ = random_walk(device, 5, num_envs=8)
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 2**32, (151, 8), np.uint32)
    actions = rng.integers(0, 8, (150, 8))
    spoiled = {name: np.array(getattr(mirrored, name)) for name in ROW_FIELDS}
    for name, column in spoiled.items():
        column[outside(mirrored)] = True if name == "tradable" else number
    for i in range(8):
        path = bits[0, i].item(), actions[:, i].tolist(), bits[1:, i].tolist()
        rows = mirror_walk(mirrored, *path)
        np.testing.assert_array_equal(rows[:, 0], final.bar[:, i])
        np.testing.assert_array_equal(rows[:, 1], result.truncated[:, i])
        np.testing.assert_array_equal(rows, mirror_walk(replace(mirrored, **spoiled), *path))


def test_a_backtest_stays_in_one_stretch(folds):
    market = folds[1]
    (first, end), (second, _) = moved()[:2]
    backtest = run_backtest(market, replay([2] * LENGTH), PARAMS)
    np.testing.assert_array_equal(backtest.bars, np.arange(first, end))
    for start, stop in ((first, end + 1), (first, second + 2), (end, second), (LENGTH - 5, LENGTH), (LENGTH, None)):
        with pytest.raises(InputError, match="do not lie in one stretch"):
            run_backtest(market, replay([2] * LENGTH), PARAMS, start, stop)


@pytest.mark.parametrize("draw", ["key", "bits"])
def test_starts_are_uniform_over_the_start_rows(folds, draw):
    market = folds[0]
    expected = [row for start, stop in moved() for row in range(start, stop - 1)]
    np.testing.assert_array_equal(market.start_rows[: market.num_starts], expected)
    count = 100 * len(expected)
    if draw == "key":
        keys = jax.random.split(jax.random.key(1), count)
        rows = jax.vmap(environment.draw_start_bar, (0, None))(keys, market)
    else:
        bits = np.random.default_rng(1).integers(0, 2**32, count, np.uint32)
        rows = environment.start_row(jnp.asarray(bits), market)
    values, counts = np.unique(rows, return_counts=True)
    np.testing.assert_array_equal(values, expected)
    # chi-square with 178 degrees of freedom: mean 178, deviation 19.
    assert ((counts - 100) ** 2 / 100).sum() < 178 + 4 * 19


def test_start_draws_of_one_stretch_are_those_of_its_range(markets):
    market = markets[0]
    keys = jax.random.split(jax.random.key(3), 256)
    drawn = jax.vmap(environment.draw_start_bar, (0, None))(keys, market)
    ranged = jax.vmap(lambda key: jax.random.randint(key, (), WINDOW - 1, BARS - 1, jnp.int32))(keys)
    np.testing.assert_array_equal(drawn, ranged)
    bits = np.random.default_rng(0).integers(0, 2**32, 256, np.uint32)
    rows = environment.start_row(jnp.asarray(bits), market)
    np.testing.assert_array_equal(rows, WINDOW - 1 + bits % (BARS - WINDOW))
    mirrored = [mirror_environment.start_row(number, markets[1]) for number in bits.tolist()]
    np.testing.assert_array_equal(rows, mirrored)


def test_a_step_from_the_last_row_of_a_stretch_stays_there(folds):
    for start, stop in moved():
        state = environment.reset_at(stop - 2, folds[0], PARAMS)
        other = mirror_environment.reset_at(stop - 2, folds[1], PARAMS)
        for _ in range(3):
            state, result = environment.step(state, jnp.int32(2), folds[0], PARAMS)
            other, expected = mirror_environment.step(other, 2, folds[1], PARAMS)
            assert int(state.bar) == other.bar == stop - 1 and start < stop
            assert bool(result.truncated) and expected.truncated


def test_the_mirror_folds_the_same_rows(folds):
    device, mirrored = folds
    for name in (*ROW_FIELDS, "segment_end", "start_rows", "num_starts", "next_start"):
        wanted = getattr(mirrored, name)
        found = np.asarray(getattr(device, name))
        np.testing.assert_array_equal(found, wanted.astype(found.dtype), name)
    assert (device.first_bar, device.num_bars) == (mirrored.first_bar, mirrored.num_bars) == (WINDOW - 1, LENGTH)


def test_padding_is_zero_untradable_and_in_no_stretch(folds):
    rows = slice(STRETCHES[-1][1] - STRETCHES[0][0] + WINDOW - 1, None)
    market = folds[0]
    for name in ROW_FIELDS:
        assert not np.asarray(getattr(market, name))[rows].any()
    assert (np.asarray(market.segment_end)[rows] == -1).all()


def test_a_segment_is_the_fold_of_one_stretch_without_padding(markets):
    market = markets[0]
    chex.assert_trees_all_equal(market_segment(market, 50, 120), fold_market(market, [(50, 120)]))
    assert market_segment(market, 50, 120).num_bars == 70 + WINDOW - 1


def test_folds_of_one_length_share_one_trace_whatever_their_stretches(markets):
    longer = make_markets(random_prices(280, seed=8), WINDOW)[0]
    step = jax.jit(chex.assert_max_traces(environment.step, n=1))
    chex.clear_trace_counter()
    for market, stretches in ((markets[0], STRETCHES), (markets[0], [(20, 250)]), (longer, [(9, 40), (70, 280)])):
        fold = fold_market(market, stretches, LENGTH)
        step(environment.reset_at(fold.first_bar, fold, PARAMS), jnp.int32(1), fold, PARAMS)


@pytest.mark.parametrize(
    ("stretches", "length", "message"),
    [
        ([], None, "no stretch was given"),
        ([(20, 21)], None, r"segment 20\.\.21 holds fewer than two rows"),
        ([(40, 20)], None, r"segment 40\.\.20 holds fewer than two rows"),
        ([(1, 50)], None, r"segment 1\.\.50 does not fit a market of 300 bars whose decision bars are 2\.\.299"),
        ([(20, 301)], None, r"segment 20\.\.301 does not fit"),
        ([(20, 60), (50, 90)], None, r"segment 50\.\.90 must start at row 62 or later: the one before ends at 60"),
        ([(100, 160), (20, 60)], None, r"segment 20\.\.60 must start at row 162 or later"),
        ([(20, 60), (61, 90)], None, r"segment 61\.\.90 must start at row 62 or later"),
        ([(20, 60)], 41, "a length of 41 rows is too short .* at least 42"),
    ],
)
def test_stretches_that_do_not_fit_are_refused(markets, stretches, length, message):
    for fold, market in zip((fold_market, mirror_market.fold_market), markets, strict=True):
        with pytest.raises(BarsError, match=message):
            fold(market, stretches, length)


def test_a_stretch_may_not_reach_into_the_hole_or_the_padding_of_a_fold(folds):
    (start, stop), last = moved()[0], moved()[-1]
    for refused in ((start, stop + 1), (stop, stop + 2), (last[0], last[1] + 1)):
        with pytest.raises(BarsError, match="does not fit"):
            fold_market(folds[0], [refused])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.tuples(st.integers(2, 9), st.integers(0, 5)), min_size=1, max_size=6), extra=st.integers(0, 9)
)
def test_start_rows_are_all_rows_before_the_last_of_their_stretch(lengths, extra):
    stretches, row = [], 0
    for length, hole in lengths:
        stretches.append((row + hole, row + hole + length))
        row += hole + length
    marks = stretch_rows(stretches, row + extra)
    count = int(marks.num_starts)
    assert marks.start_rows[:count].tolist() == [r for start, stop in stretches for r in range(start, stop - 1)]
    for start, stop in stretches:
        assert (marks.segment_end[start:stop] == stop - 1).all()
    for (start, stop), (following, _) in zip(stretches, stretches[1:] + stretches[:1], strict=True):
        assert (marks.next_start[start:stop] == following).all()
    assert (marks.next_start >= 0).sum() == (marks.segment_end >= 0).sum()
    assert (marks.segment_end >= 0).sum() == sum(length for length, _ in lengths)
    assert all(getattr(marks, name).dtype == np.int32 for name in marks._fields)
