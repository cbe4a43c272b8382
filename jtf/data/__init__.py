"""Where bars come from: files, data frames, or the built-in synthetic market."""

from jtf.data.load import BARS_SETTINGS, bars_sha256, load_bars

__all__ = ["BARS_SETTINGS", "bars_sha256", "load_bars"]
