"""``python -m jtf.import``: a dense network from elsewhere (a PyTorch state dict in safetensors) as a bundle."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jtf.data.timeframes import TIMEFRAMES, Timeframe
from jtf.errors import UserError, run_command
from jtf.flags import errors_name_flags, parse_flags
from jtf.models.bundle import write_bundle
from jtf.models.dense import read_dense
from jtf_env.assets import AssetClass
from jtf_env.errors import InputError
from jtf_env.layouts import DEFAULT_WINDOW, HourVisibility


@dataclass(frozen=True)
class ImportConfig:
    """Import a dense network over the flattened observation; its layout is recognised by the exact size."""

    weights: Path
    """State dict saved as safetensors: layers first, hidden_0, …, policy and value, each with weight and bias, and
    optionally scaler.mean and scaler.std, a number per column."""
    out: Path
    """Bundle to write, e.g. spy.zip."""
    symbol: str
    """Symbol the network trades; its spelling decides the asset class unless --asset-class is given."""
    window: int = DEFAULT_WINDOW
    """Bars in the observation."""
    timeframe: Timeframe = "15Min"
    """Length of the bars."""
    hour_visibility: HourVisibility = "previous"
    """Which hour the hourly context of a bar describes."""
    asset_class: AssetClass | None = None
    """us_equity or crypto."""
    clip: bool = True
    """Whether standardised values were clipped to +-10; without a scaler in the file nothing is clipped."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(lambda: run_from_args(argv))


def run_from_args(argv: Sequence[str] | None) -> None:
    """Parse, import, and say which layout was recognised."""
    config = parse_flags(ImportConfig, argv, "jtf import")
    if config.window < 1:
        raise UserError(f"--window {config.window} is no number of bars; give 1 or more.")
    with errors_name_flags(ImportConfig, "", UserError, InputError):
        policy = read_dense(
            config.weights,
            config.symbol,
            window=config.window,
            hour_visibility=config.hour_visibility,
            bar_minutes=TIMEFRAMES[config.timeframe],
            asset_class=config.asset_class,
            clip=config.clip,
        )
    write_bundle(config.out, policy, {})
    print(f"wrote {config.out}: layout {policy.layout.name}, window {policy.window}, {policy.symbol}")


if __name__ == "__main__":
    sys.exit(main())
