"""The bar lengths to train on, and where in a bar its time stamp lies."""

from typing import Literal, get_args

Timeframe = Literal["5Min", "15Min", "30Min", "1Hour"]
Stamps = Literal["start", "end"]

TIMEFRAMES: dict[str, int] = dict(zip(get_args(Timeframe), (5, 15, 30, 60), strict=True))
"""Bar lengths to train on, in minutes."""
FILE_TIMEFRAMES: dict[str, int] = {"1Min": 1, **TIMEFRAMES}
"""Bar lengths that file names tell, in minutes, from the finest to the coarsest."""


def finer_timeframes(timeframe: str) -> list[str]:
    """Return `timeframe` and those its bars can be made of, from the coarsest to the finest."""
    minutes = FILE_TIMEFRAMES[timeframe]
    return [name for name, short in reversed(FILE_TIMEFRAMES.items()) if short <= minutes]
