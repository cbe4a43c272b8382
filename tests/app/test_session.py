"""Sessions: bar by bar they decide what all bars decide, to the last bit."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jtf
from jtf.data import load_bars
from jtf.errors import UserError
from jtf.models.bundle import write_bundle
from jtf.models.policy import Policy
from jtf.models.stream import BLOCK, WindowStream, history_rows
from jtf_env.bars import COLUMNS, Bars
from jtf_env.errors import BarsError
from jtf_env.layouts import LAYOUTS, get_layout
from jtf_env.mirror import account_columns, build_market, fit_scaler, reset_at
from jtf_env.mirror.account import Observation
from jtf_env.mirror.live import Bar, LiveMarket
from jtf_env.params import make_params
from tests.app.conftest import random_walk

WINDOW = 40
"""More than two blocks, so that a stream works ahead."""


def make_policy(bars: Bars, layout: str = "v5.6.0", window: int = WINDOW, members: int = 2) -> Policy:
    """Return a random policy of two hidden layers whose scaler fits `bars`."""
    rng, built = np.random.default_rng(0), get_layout(layout)
    sizes = [len(built.columns_from(source)) for source in ("bar", "context", "state")]

    def layer(*shape: int) -> np.ndarray:
        return rng.normal(0.0, 0.2, shape).astype(np.float32)

    def member() -> dict:
        first = {"kernel": layer(window, sizes[0], 12), "context_kernel": layer(sizes[1] + sizes[2], 12) / window}
        return {
            "first": first | {"bias": layer(12)},
            "hidden_0": {"kernel": layer(12, 6), "bias": layer(6)},
            "policy": {"kernel": layer(6, 8), "bias": layer(8)},
            "value": {"kernel": layer(6, 1), "bias": layer(1)},
        }

    natural = build_market(bars, built, window=window)
    return Policy(
        members=tuple(member() for _ in range(members)),
        seeds=tuple(range(members)),
        scaler=fit_scaler(natural.features, natural.context, natural.first_bar),
        symbol=bars.symbol,
        layout=built,
        window=window,
        env_params=make_params(bars.asset_class),
        bars_per_year=bars.bars_per_year,
    )


def bar_at(bars: Bars, row: int) -> Bar:
    return Bar(bars.timestamps[row], *(float(getattr(bars, name)[row]) for name in COLUMNS))


def same(one, other) -> bool:
    """Whether two decisions are the same to the last bit."""
    numbers = ("action", "size", "value", "bar_time", "spread")
    return all(getattr(one, name) == getattr(other, name) for name in numbers) and bool(
        (one.probabilities == other.probabilities).all()
    )


def follow(policy: Policy, bars: Bars, start: int) -> list:
    """Return the decisions of a session behind the first `start` bars at every later bar."""
    session = policy.start(bars[:start])
    return [session.update(bar_at(bars, row)) for row in range(start, len(bars))]


@pytest.fixture(scope="module")
def crypto_bars(bars_folder) -> Bars:
    return load_bars("AAAUSDT", bars_folder)


@pytest.fixture(scope="module")
def policy(crypto_bars) -> Policy:
    return make_policy(crypto_bars)


def assert_bar_by_bar_is_all_bars(bars: Bars, start: int) -> None:
    """Assert that a session behind `start` bars decides at every later bar what all bars decide."""
    policy = make_policy(bars)
    market = policy.market(bars)
    for row, decision in enumerate(follow(policy, bars, start), start=start):
        expected, values = policy.outputs_at(market, Observation(row, np.zeros(0)))
        assert (decision.probabilities == expected.mean(axis=0)).all() and decision.value == values.mean(), row
    for row in (start, start + 700, len(bars) - 1):
        assert same(policy.decide(bars[: row + 1]), follow(policy, bars[: row + 1], start - 10)[-1])


def test_a_session_decides_at_every_bar_of_a_year_of_spy_what_all_bars_decide(real_data):
    """The year has its half days, holidays and both changes of the clock."""
    assert_bar_by_bar_is_all_bars(load_bars("SPY", real_data)[-8_000:], 1_400)


def test_a_session_goes_through_holes_in_real_crypto_bars_as_all_bars_do(real_data):
    assert_bar_by_bar_is_all_bars(holes(load_bars("BTCUSDT", real_data)[30_000:35_000]), 1_400)


@pytest.mark.slow
def test_a_session_decides_at_every_bar_of_a_year_of_btcusdt_what_all_bars_decide(real_data):
    assert_bar_by_bar_is_all_bars(load_bars("BTCUSDT", real_data)[-36_500:], 1_400)


def holes(bars: Bars) -> Bars:
    """Return `bars` without some single bars, an hour and a day."""
    frame = pd.DataFrame({name: getattr(bars, name) for name in COLUMNS}, bars.timestamps)
    dropped = [1_500, 1_501, 2_000, *range(3_000, 3_004), *range(4_000, 4_096)]
    return load_bars(bars.symbol, frame.drop(frame.index[dropped]))


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_the_columns_of_a_new_bar_are_those_of_all_bars_in_every_layout(layout, crypto_bars):
    built = get_layout(layout)
    policy = make_policy(crypto_bars, layout)
    market, live = policy.market(crypto_bars), LiveMarket(crypto_bars[:500], built, policy.scaler, WINDOW)
    for row in range(500, len(crypto_bars)):
        found = live.push(bar_at(crypto_bars, row))
        np.testing.assert_array_equal(found[0], market.features[row])
        np.testing.assert_array_equal(live.context[0], market.context[row])


def test_flat_prices_and_no_volume_leave_neutral_values_in_both(crypto_bars):
    frame = random_walk(600)
    frame.iloc[300:450, :4] = 100.0
    frame.iloc[300:450, 4] = 0.0
    bars = load_bars("AAAUSDT", frame)
    policy = make_policy(bars, "v5.3.0")
    market, live = policy.market(bars), LiveMarket(bars[:290], policy.layout, policy.scaler, WINDOW)
    found = np.concatenate([live.push(bar_at(bars, row)) for row in range(290, 600)])
    np.testing.assert_array_equal(found, market.features[290:])


@pytest.mark.parametrize("window", [1, 5, 2 * BLOCK, 2 * BLOCK + 1, 100])
def test_a_stream_gives_each_row_the_same_bits_wherever_it_began(window):
    rng = np.random.default_rng(window)
    rows, kernel = rng.normal(size=(400, 3)), rng.normal(size=(window, 3, 8)).astype(np.float32)
    from_first = WindowStream(kernel, rows[:window], window)
    expected = {row: from_first.push(rows[row]).copy() for row in range(window, 400)}
    for begin in (window, 150, 201, 208, 305):
        stream = WindowStream(kernel, rows[max(0, begin + 1 - history_rows(window)) : begin + 1], begin + 1)
        np.testing.assert_array_equal(stream.last, expected[begin])
        for row in range(begin + 1, 400):
            np.testing.assert_array_equal(stream.push(rows[row]), expected[row])
    exact = np.einsum("wf,wfh->h", rows[400 - window :], kernel.astype(float))
    np.testing.assert_allclose(expected[399], exact, atol=2e-5)


@settings(max_examples=15, deadline=None)
@given(start=st.integers(300, 990), length=st.integers(1, 9))
def test_when_a_session_began_does_not_matter(start, length, crypto_bars, policy):
    stop = start + length
    assert same(follow(policy, crypto_bars[:stop], start)[-1], policy.decide(crypto_bars[:stop]))


@pytest.mark.parametrize("layout", ["v5.6.0", "v2.7.0"])
def test_the_backtest_takes_the_actions_of_the_session(layout, crypto_bars):
    policy = make_policy(crypto_bars, layout)
    market = policy.market(crypto_bars)
    decide, session = policy.decider(market), policy.start(crypto_bars[:900])
    account = account_columns(reset_at(market.first_bar, market, policy.env_params), policy.layout, policy.env_params)
    for row in range(900, 1_000):
        decision = session.update(bar_at(crypto_bars, row), account if len(account) else None)
        assert decision.action == decide(Observation(row, account))


def test_a_tie_within_rounding_is_decided_like_in_a_session(crypto_bars):
    """The heads of two actions are equal but for one part in 10^9: which one wins is a matter of rounding."""
    policy = make_policy(crypto_bars, members=1)
    (params,) = policy.members
    kernel, bias = params["policy"]["kernel"].copy(), params["policy"]["bias"].copy()
    bias[:] -= 50.0
    bias[[2, 5]] = 10.0, 10.0
    kernel[:, 5] = kernel[:, 2] * np.float32(1 + 1e-7)
    params["policy"] = {"kernel": kernel, "bias": bias}
    market = policy.market(crypto_bars)
    at_once, table = policy.actions(market), policy.probabilities(market).argmax(axis=1)
    seen = [Observation(row, np.zeros(0)) for row in range(market.first_bar, 1_000)]
    live = [policy.probabilities_at(market, one).argmax() for one in seen]
    assert (table[market.first_bar :] != live).any(), "the test must meet ties that rounding decides"
    np.testing.assert_array_equal(at_once[market.first_bar :], live)


def test_a_decision_says_size_spread_time_and_layout(crypto_bars, policy):
    decision = policy.decide(crypto_bars)
    market = policy.market(crypto_bars)
    members, _ = policy.outputs_at(market, Observation(len(crypto_bars) - 1, np.zeros(0)))
    assert decision.size == [0, 0.25, 0.5, 0.75, -0.25, -0.5, -0.75, 0][decision.action]
    assert decision.spread == pytest.approx(np.std(members[:, decision.action]))
    assert decision.bar_time == crypto_bars.timestamps[-1] and decision.layout.name == "v5.6.0"
    assert decision.probabilities.sum() == pytest.approx(1.0)


def test_bars_may_be_a_data_frame_and_a_bar_a_mapping(crypto_bars, policy):
    frame = random_walk(1_000)
    session = policy.start(frame.iloc[:999])
    record = frame.iloc[999:].reset_index().to_dict("records")[0]
    assert same(session.update(record), policy.decide(crypto_bars))
    assert same(policy.decide(frame), policy.decide(crypto_bars))


def test_account_columns_change_the_decision_of_a_layout_that_has_them(crypto_bars):
    policy = make_policy(crypto_bars, "v2.7.0")
    session = policy.start(crypto_bars)
    flat = reset_at(999, policy.market(crypto_bars), policy.env_params)
    columns = account_columns(flat, policy.layout, policy.env_params)
    assert same(session.decide(flat), session.decide(columns))
    assert not same(session.decide(flat), session.decide(columns + 0.5))


@pytest.mark.parametrize(
    ("account", "told"),
    [
        (None, "decides by the account"),
        (["a"] * 6, "6 finite"),
        (np.zeros(2), "6 finite"),
        (np.full(6, np.nan), "6 finite"),
    ],
)
def test_a_layout_with_account_columns_asks_for_them(account, told, crypto_bars):
    with pytest.raises(UserError, match=told):
        make_policy(crypto_bars, "v2.7.0").decide(crypto_bars, account)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"timestamp": "2024-01-11T09:45Z"}, "does not follow"),
        ({"timestamp": "2024-01-11T10:07Z"}, "does not start where"),
        ({"timestamp": "2024-01-11T10:00"}, "no time zone"),
        ({"close": float("nan")}, "NaN or infinity"),
        ({"close": -1.0}, "zero or negative"),
        ({"high": 0.5}, "high below"),
        ({"volume": -1.0}, "negative volume"),
        ({"timestamp": "not a time"}, "'not a time' is no time"),
        ({"timestamp": "9999-12-31T00:00Z"}, "is no time"),
        ({"timestamp": [1]}, "is no time"),
        ({"timestamp": b"2024-01-11T10:00Z"}, "is no time"),
        ({"open": "x"}, "no number"),
        ({"open": 10**400}, "no number"),
        ({"close": None}, "no number"),
    ],
)
def test_a_bar_that_is_none_is_refused_and_the_session_goes_on(change, told, crypto_bars, policy):
    session, untouched = policy.start(crypto_bars), policy.start(crypto_bars)
    following = {"timestamp": "2024-01-11T10:00Z", "open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "volume": 3.0}
    with pytest.raises(BarsError, match=told):
        session.update(following | change)
    assert same(session.update(following), untouched.update(following))


def test_a_bar_without_a_field_is_refused(crypto_bars, policy):
    with pytest.raises(BarsError, match="has no low"):
        policy.start(crypto_bars).update({"timestamp": "2024-01-11T10:00Z", "open": 1.0, "high": 1.0})


@pytest.mark.parametrize("bar", [None, 3, "a bar", [1.0, 2.0]])
def test_what_is_neither_a_bar_nor_a_mapping_is_refused(bar, crypto_bars, policy):
    with pytest.raises(BarsError, match="is no bar; give timestamp, open"):
        policy.start(crypto_bars).update(bar)


@pytest.mark.parametrize(
    ("time", "told"),
    [
        ("2025-11-28T18:00Z", "outside regular hours"),  # the half day after Thanksgiving ends at 13:00 New York
        ("2025-11-27T15:00Z", "date without a session"),  # Thanksgiving
        ("2025-11-29T15:00Z", "date without a session"),  # a Saturday
    ],
)
def test_a_bar_outside_the_exchanges_hours_is_refused(time, told):
    bars = load_bars("SPY")
    session = make_policy(bars).start(bars)
    with pytest.raises(BarsError, match=told):
        session.update(Bar(time, 1.0, 1.0, 1.0, 1.0, 1.0))


def test_bars_of_another_length_are_refused(policy):
    frame = (
        random_walk(1_000)
        .resample("30min")
        .agg({"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"})
    )
    bars = load_bars("AAAUSDT", frame, timeframe="30Min")
    with pytest.raises(UserError, match="30-minute bars and the policy was trained on 15-minute"):
        policy.decide(bars)


def test_too_few_bars_are_refused(crypto_bars, policy):
    with pytest.raises(BarsError, match="too few"):
        policy.start(crypto_bars[:140])


def test_extended_hours_of_the_training_are_those_of_the_session(crypto_bars):
    bars = load_bars("SPY")
    policy = replace(make_policy(bars), extended_hours=True)
    after_hours = bars.timestamps[-1] + pd.Timedelta(minutes=15)
    assert policy.start(bars).update(Bar(after_hours, 1.0, 1.0, 1.0, 1.0, 1.0)).bar_time == after_hours


def test_a_bundle_decides_with_numpy_pandas_and_safetensors_alone(crypto_bars, policy, bars_folder, tmp_path: Path):
    """In a process in which everything else that jtf depends on cannot be imported; the bars come as CSV."""
    write_bundle(tmp_path / "a.zip", policy, {})
    random_walk(1_000).to_csv(tmp_path / "bars.csv")
    code = f"""
import json, sys
names = "jax jaxlib flax optax chex orbax tensorboardX arch matplotlib docstring_parser plotly pyarrow rich scipy tyro"
for name in [*names.split(), "typeguard", "exchange_calendars"]:
    sys.modules[name] = None
import pandas as pd
import jtf
policy = jtf.Policy.load({str(tmp_path / "a.zip")!r})
frame = pd.read_csv({str(tmp_path / "bars.csv")!r}, parse_dates=["timestamp"])
session = policy.start(frame.iloc[:990])
decisions = [session.update(record) for record in frame.iloc[990:].to_dict("records")]
print(json.dumps([decision.probabilities.tolist() for decision in decisions]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = jtf.Policy.load(tmp_path / "a.zip")
    here = [decision.probabilities.tolist() for decision in follow(loaded, crypto_bars, 990)]
    np.testing.assert_allclose(json.loads(done.stdout), here, rtol=0, atol=1e-12)
