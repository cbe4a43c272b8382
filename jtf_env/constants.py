"""The numbers in the formulas, once: JAX and the mirror share rules, not arithmetic. Plain Python.

Lengths count bars unless the name says hours. A change of a number in a column is a new
`jtf_env.versions.FEATURES_VERSION`, of one in orders or rewards a new `ENV_VERSION`.
"""

import math

# guards

EPSILON = 1e-8
"""Added to the denominators of simple returns, USD."""
PRICE_STD_FLOOR = 1e-12
"""A deviation of prices below this share of their mean is rounding: it counts as 0."""
RETURN_STD_FLOOR = 1e-15
"""A deviation of returns below this is rounding: it counts as 0."""

MIDDLE = 0.5
"""Neutral value of a column between two extremes: the position in a range of width 0, an RSI without moves."""

# base6

NORM_WINDOW = 100
VOLATILITY_WINDOW = 20
GARMAN_KLASS_CLOSE = 2.0 * math.log(2.0) - 1.0
"""Weight of ``ln(p/o)^2`` in the variance of Garman and Klass (1980); that of ``ln(h/l)^2`` is 1/2."""
MOMENTUM_BARS = 10
RSI_PERIOD = 14
VOLUME_WINDOW = 100
"""base7."""

# extended14, the periods of TA-Lib's functions

MACD_FAST, MACD_SLOW, MACD_SIGNAL = 12, 26, 9
ADX_PERIOD = 14
STOCHASTIC_PERIOD, STOCHASTIC_SMOOTHING = 14, 3
ATR_PERIOD = 14
BOLLINGER_PERIOD, BOLLINGER_WIDTH = 20, 2.0
CCI_PERIOD = 20
CCI_FACTOR = 0.015
"""Lambert's factor before the mean deviation."""
CCI_SCALE = 200.0
WILLIAMS_PERIOD = 14
ROC_BARS = 5
LONG_RSI_PERIOD = 21

# multi_window9

WINDOWS = (20, 50, 100)

# markov12 and reversal3

STATES = (-1.0, 0.0, 1.0)
"""Means of the unit-variance emissions of the three states."""
STAY = 0.90
"""Probability of staying in a state from one bar to the next."""
SWITCH = 0.05
"""Probability of moving to one given other state."""
SHORT_REGIME, LONG_REGIME = 20, 100
"""Windows of the volatility, trend and momentum statistics, and of the volatility and macro ones."""
MOMENTUM_CHANGE_BARS = 5
VOLATILITY_SPREAD = 0.35
"""The logarithm of the ratio of deviations is divided by this."""
TREND_SPREAD = 2.0
"""The t-statistics of trend and macro are divided by this."""
STATISTIC_CLIP = 4.0
"""Statistics are clipped to +-STATISTIC_CLIP, so that no emission density vanishes."""

# hourly_context7

TREND_HOURS = 4
RISING_HOURS = 4

# intraday4

EDGE_MINUTES = 60
"""Minutes after the open, and before the close, that count as the first and the last hour."""

# regime_bars3

REGIME_BARS = 100
"""Bars since a change of state are counted up to this many, and divided by it."""

# orders and rewards

BREAK_EVEN = 1e-6
"""A round trip is a win above this profit (fraction of equity); below it float32 cannot tell the sign."""
MAGNITUDE_CLIP = 2.0
"""The scaled price move of the magnitude reward counts up to this size, so that one gap does not outweigh a session."""
RETURN_CLIP = 0.5
"""The scaled log return of the clipped reward counts up to this size: at the default scale 50 basis points a step."""
MIN_GROWTH = 1e-3
"""Equity growth of one step is floored here before the logarithm: ruin costs a finite reward."""
DSR_MIN_STD = 5e-4
"""Floor of the deviation of the step return (fraction) that the differential Sharpe ratio divides by."""
DSR_CLIP = 10.0
"""The differential Sharpe ratio is clipped to +-DSR_CLIP."""

# account3 and position3

RETURN_SCALE = 10.0
"""The column of the total return is ``tanh(RETURN_SCALE * total_return)``."""
MIN_EQUITY = 1e-3
"""position3 sees equity floored at this share of the initial equity: ruin is observed as finite numbers."""
