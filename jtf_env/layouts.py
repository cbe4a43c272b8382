"""Feature groups, named layouts, and the exact map between observation size and layout.

Everything that builds observations iterates over `Layout.groups`; there is no second place where an order or
a count is written. Plain Python: shared by JAX, the mirror and exported models.

Both implementations build columns by these conventions and so agree on every row (`p` close, `q` log return,
q_0 = 0):

- "std" is the sample standard deviation (ddof 1) except in Bollinger bands (TA-Lib: population).
- Rows `i < group.warmup` of a bar group are `group.neutral` in every column, whatever could be measured.
- The std of a window of returns counts as exactly 0 below 1e-15; the std (and CCI's mean deviation) of a
  window of prices counts as exactly 0 below 1e-12 times the absolute mean of that window.
- A quotient whose denominator is exactly 0 is the column's neutral value: norm_price (std_100), rsi and
  rsi_21 (average gain + average loss), range_N (max high - min low), williams_r (same), cci (mean
  deviation), and all three Bollinger columns (std_20). Raw %K is 0.5 where the range is 0, then smoothed.
  DX is 0 where the smoothed TR is 0 or the smoothed +DM and -DM both are.
- volatility (Garman and Klass) has no denominator: it is 0 where every bar of the window is one price.
- macd, its signal and histogram are divided by the close of the same bar. The fast average is seeded at
  bar 25 like the slow one (mean of closes 14..25; slow: of 0..25), the signal at bar 33 (mean of the line
  over 25..33), as TA-Lib does.
- markov12: s_i = 0 where a std in it is 0, and on every row `i < warmup`; the filter starts uniform before
  row 0, so cold rows feed it s = 0, and rows `i < warmup` show 1/3 all the same. reversal3 multiplies
  posteriors of the same bar, so its cold rows show 1/9, 2/9, 1/9.
- volume_proxy is the logarithm of a quotient of volumes that are all at least 0, one unit added to each: where no
  volume is known (all 0) it is 0.
- regime_bars3 reads the filters of markov12 on every row. The most likely state is the first of equals; a filter
  that has not moved since row 0 is at the cap, 1.
- intraday4: session_elapsed repeats session_progress, session_left is the rest to 1. A bar is in the first hour if
  it ends within 60 minutes after the scheduled open, in the last if it starts within 60 minutes before the scheduled
  close; bars outside regular hours are in neither. Where trading never stops the session is the UTC day.
- temporal7 is never cold: hour (hour + minute/60)/24, weekday (Monday 0)/7, month (month - 1)/12 at bar
  start in the exchange's zone, times 2 pi; session_progress is measured at bar end and clipped to [0, 1].
- hourly_context7 is 0 per column where not valid or not warm (FEATURES.md); std as for returns; the first
  bar of a session (row 0 included) is left out of h1_volatility.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Literal

from jtf_env.constants import MIDDLE, WINDOWS
from jtf_env.errors import LayoutError
from jtf_env.versions import ENV_VERSION, FEATURES_VERSION

Source = Literal["bar", "context", "state"]
HourVisibility = Literal["previous", "at_close"]

DEFAULT_LAYOUT = "v5.6.0"
DEFAULT_WINDOW = 100


@dataclass(frozen=True)
class Group:
    """A named run of columns that are built together.

    ``source`` says what a column is a function of: ``bar`` groups are windowed over the last `W` bars,
    ``context`` groups are functions of the bar index broadcast over the window, ``state`` groups come from
    the environment state and are broadcast too. ``warmup`` is the number of leading bars whose values are
    neutral instead of measured, for every column of a ``bar`` group; `hourly_context7` decides per column
    (its ``warmup`` only moves the first decision bar).
    """

    name: str
    columns: tuple[str, ...]
    source: Source = "bar"
    warmup: int = 0
    neutral: tuple[float, ...] = ()
    """One value per column (given none: all 0), for cold rows and zero denominators (module docstring)."""

    def __post_init__(self) -> None:
        if not self.neutral:
            object.__setattr__(self, "neutral", (0.0,) * len(self.columns))
        if len(self.neutral) != len(self.columns):
            raise ValueError(f"group {self.name} has {len(self.columns)} columns, {len(self.neutral)} neutral values")


def _filter(name: str, states: tuple[str, str, str]) -> tuple[str, ...]:
    return tuple(f"{name}_{state}" for state in states)


_BASE6 = ("norm_price", "return", "log_return", "volatility", "momentum", "rsi")
_THREE = ("down", "flat", "up")
_BASE6_NEUTRAL = (0.0, 0.0, 0.0, 0.0, 0.0, MIDDLE)
_EXTENDED_MIDDLE = ("stoch_k", "stoch_d", "bollinger_position", "williams_r", "rsi_21")
_EXTENDED14 = (
    "macd", "macd_signal", "macd_histogram", "adx", "stoch_k", "stoch_d", "atr",
    "bollinger_position", "bollinger_upper", "bollinger_width", "cci", "williams_r", "roc", "rsi_21",
)  # fmt: skip

GROUPS: dict[str, Group] = {
    group.name: group
    for group in (
        Group("base6", _BASE6, warmup=100, neutral=_BASE6_NEUTRAL),
        Group("base7", (*_BASE6, "volume_proxy"), warmup=100, neutral=(*_BASE6_NEUTRAL, 0.0)),
        Group("intraday4", ("session_elapsed", "session_left", "is_first_hour", "is_last_hour")),
        Group(
            "temporal7",
            (
                "hour_sin", "hour_cos", "weekday_sin", "weekday_cos", "month_sin", "month_cos",
                "session_progress",
            ),
        ),
        Group(
            "markov12",
            (
                *_filter("volatility", ("low", "mid", "high")),
                *_filter("trend", _THREE),
                *_filter("momentum", _THREE),
                *_filter("macro", _THREE),
            ),
            warmup=101,
            neutral=(1 / 3,) * 12,
        ),
        Group("reversal3", ("turn_up", "continue", "turn_down"), warmup=101, neutral=(1 / 9, 2 / 9, 1 / 9)),
        Group(
            "extended14",
            _EXTENDED14,
            warmup=34,
            neutral=tuple(MIDDLE if column in _EXTENDED_MIDDLE else 0.0 for column in _EXTENDED14),
        ),
        Group(
            "multi_window9",
            tuple(f"{name}_{window}" for window in WINDOWS for name in ("mean", "std", "range")),
            warmup=101,
            neutral=(0.0, 0.0, MIDDLE) * len(WINDOWS),
        ),
        Group(
            "regime_bars3",
            ("volatility_regime_bars", "trend_regime_bars", "momentum_regime_bars"),
            warmup=101,
        ),
        Group("account3", ("account_return", "account_win_rate", "account_drawdown"), source="state"),
        Group("position3", ("position_level", "position_cash", "position_equity"), source="state"),
        Group(
            "hourly_context7",
            (
                "h1_return", "h1_volatility", "h1_trend", "h1_momentum", "h1_rsi", "h1_range",
                "position_in_hour",
            ),
            source="context",
            warmup=17,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """An ordered tuple of groups under one name. ``hour_visibility`` is part of its identity."""

    name: str
    groups: tuple[Group, ...]
    hour_visibility: HourVisibility = "previous"

    @property
    def columns(self) -> tuple[str, ...]:
        """All column names, in observation order."""
        return tuple(column for group in self.groups for column in group.columns)

    @property
    def count(self) -> int:
        """Number of columns."""
        return len(self.columns)

    def columns_from(self, source: Source) -> tuple[str, ...]:
        """Names of the columns of the groups with this source, in order."""
        return tuple(column for group in self.groups if group.source == source for column in group.columns)

    @property
    def bar_columns(self) -> tuple[str, ...]:
        """Columns windowed over the last `W` bars: the columns of ``Market.features [T, F]``."""
        return self.columns_from("bar")

    @property
    def context_columns(self) -> tuple[str, ...]:
        """Columns of ``Market.context [T, C]``, broadcast over the window."""
        return self.columns_from("context")

    @property
    def state_columns(self) -> tuple[str, ...]:
        """Columns of the account ``[E]``, broadcast over the window."""
        return self.columns_from("state")

    @property
    def observation_order(self) -> tuple[int, ...]:
        """Where each column of the observation stands in ``bar_columns + context_columns + state_columns``."""
        built = self.bar_columns + self.context_columns + self.state_columns
        return tuple(built.index(column) for column in self.columns)

    @property
    def address_only(self) -> bool:
        """Whether every column is a function of the bar index alone."""
        return all(group.source != "state" for group in self.groups)

    @property
    def warmup(self) -> int:
        """Leading bars before every column is warm."""
        return max(group.warmup for group in self.groups)

    def obs_dim(self, window: int = DEFAULT_WINDOW) -> int:
        """Size of the flattened observation."""
        return window * self.count

    def first_bar(self, window: int = DEFAULT_WINDOW) -> int:
        """First bar at which a decision may be made: the whole window behind it is warm."""
        return self.warmup + window - 1

    def hash(self, window: int = DEFAULT_WINDOW) -> str:
        """Stable identity (16 hex digits) of the ordered columns, window, hour visibility and both versions."""
        identity = json.dumps([list(self.columns), window, self.hour_visibility, FEATURES_VERSION, ENV_VERSION])
        return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _layout(name: str, groups: str) -> Layout:
    return Layout(name, tuple(GROUPS[group] for group in groups.split()))


_V23 = "base7 intraday4 temporal7 markov12 extended14 multi_window9"
_V55 = "base6 temporal7 markov12 reversal3 extended14 multi_window9"

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        _layout("v2.3.0", _V23),
        _layout("v2.4.0", f"{_V23} account3"),
        _layout("v2.7.0", f"{_V23} account3 position3"),
        _layout(
            "v5.3.0",
            "base7 intraday4 temporal7 markov12 reversal3 extended14 multi_window9 account3 position3 regime_bars3",
        ),
        _layout("v5.5.0", _V55),
        _layout("v5.6.0", f"{_V55} hourly_context7"),
    )
}


def get_layout(name: "str | Layout", hour_visibility: HourVisibility | None = None) -> Layout:
    """Return the layout called `name`; raise `LayoutError` naming the known ones.

    A `Layout` passes through. `hour_visibility` replaces the layout's own rule when given.
    """
    layout = LAYOUTS.get(name) if isinstance(name, str) else name
    if layout is None:
        raise LayoutError(f"layout {name!r} is unknown; known layouts are {', '.join(LAYOUTS)}.")
    if hour_visibility is not None:
        if hour_visibility not in ("previous", "at_close"):
            raise LayoutError(f"hour_visibility {hour_visibility!r} is not 'previous' or 'at_close'.")
        layout = replace(layout, hour_visibility=hour_visibility)
    return layout


def layout_from_obs_dim(obs_dim: int, window: int = DEFAULT_WINDOW) -> Layout:
    """Return the layout whose flattened observation has exactly `obs_dim` numbers; no ranges, no guesses."""
    for layout in LAYOUTS.values():
        if layout.obs_dim(window) == obs_dim:
            return layout
    known = ", ".join(f"{layout.obs_dim(window)} ({layout.name})" for layout in LAYOUTS.values())
    raise LayoutError(f"obs_dim {obs_dim} at window {window} matches no layout; known sizes are {known}.")
