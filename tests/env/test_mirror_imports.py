"""The mirror needs NumPy and pandas only: it is what a live machine runs."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.quick

BLOCK = """
import sys
for name in ("jax", "jaxlib", "flax", "optax", "chex", "orbax", "scipy", "exchange_calendars", "pyarrow"):
    sys.modules[name] = None
"""

BUILD = """
import numpy as np, pandas as pd
import jtf_env.mirror as mirror
from jtf_env.bars import make_bars

close = 100.0 * np.exp(np.cumsum(np.random.default_rng(0).normal(0.0, 0.01, 300)))
frame = pd.DataFrame(
    {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": np.ones(300)},
    index=pd.date_range("2024-01-01", periods=300, freq="15min", tz="UTC"),
)
market = mirror.build_market(make_bars(frame, "BTC/USD"))
print(market.features.shape, market.context.shape)
"""

LOADED = """
print(" ".join(sorted(name for name in sys.modules if name.startswith("jtf_env."))))
"""

SHARED = {
    "actions", "assets", "bars", "constants", "errors", "layouts", "oddities", "params", "scaler", "sessions",
    "stretches", "versions",
}  # fmt: skip
"""Rules without arithmetic, or arithmetic that must live once; everything else the mirror writes itself."""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_mirror_builds_a_crypto_market_where_jax_and_calendars_are_absent():
    assert run(BLOCK + BUILD) == "(300, 51) (300, 7)"


def test_mirror_loads_no_module_of_the_jax_side():
    loaded = run("import sys, jtf_env.mirror" + LOADED).split()
    outside = {name.removeprefix("jtf_env.") for name in loaded if not name.startswith("jtf_env.mirror")}
    assert outside <= SHARED
