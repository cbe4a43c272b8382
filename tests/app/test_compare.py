"""``jtf.compare``: differences with the chance in them, on curves whose difference is known."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from jtf import compare as command
from jtf.compare import Curve, common, compare
from jtf.errors import UserError

PER_YEAR = 35_040.0
TIMES = pd.date_range("2024-01-01", periods=4_000, freq="15min", tz="UTC")


def curve(returns: np.ndarray, shift: int = 0) -> Curve:
    return Curve(TIMES[shift : shift + len(returns)], returns, PER_YEAR)


def market(seed: int, size: int = 3_000) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 3e-3, size)


def of(name: str, differences):
    return next(item for item in differences if item.name == name)


def test_a_small_edge_over_the_same_market_is_seen_only_in_pairs():
    base = market(0)
    better = base + np.random.default_rng(1).normal(3e-5, 1e-4, len(base))
    paired = of("log growth a year", compare(curve(better), curve(base), paired=True, draws=300))
    apart = of("log growth a year", compare(curve(better), curve(base), paired=False, draws=300))
    assert paired.interval.low > 0 > apart.interval.low
    assert paired.difference == apart.difference == pytest.approx(3e-5 * PER_YEAR, rel=0.25)


def test_curves_without_a_difference_cover_zero_about_as_often_as_the_interval_says():
    covered = 0
    for seed in range(60):
        pair = curve(market(seed, 400)), curve(market(1_000 + seed, 400))
        interval = of("log growth a year", compare(*pair, paired=True, draws=200)).interval
        covered += interval.low <= 0 <= interval.high
    assert 51 <= covered <= 60  # 95 % of 60 is 57; fewer than 51 has a chance of 1 in 300.


def test_the_numbers_are_those_of_the_curves():
    a, b = curve(np.full(60, 0.001)), curve(np.tile([0.01, -0.01], 30))
    found = compare(a, b, paired=True, draws=100)
    assert of("log growth a year", found).a == pytest.approx(np.log1p(0.001) * PER_YEAR)
    assert of("deepest drawdown", found).a == 0.0
    assert of("deepest drawdown", found).b == pytest.approx(1.0 - 0.99 * (1.01 * 0.99) ** 29)


def test_pairs_are_the_bars_both_have():
    a, b = common(curve(market(0), 0), curve(market(0), 500))
    assert len(a.times) == 2_500 and a.times.equals(b.times) and a.times[0] == TIMES[500]


def test_too_few_bars_in_common_are_refused():
    with pytest.raises(UserError, match="10 bars in common"):
        compare(curve(market(0)[:100], 0), curve(market(0)[:100], 90), paired=True)


def test_a_run_compared_with_itself_does_not_differ(trained_run, tmp_path, capsys):
    out = tmp_path / "found.json"
    args = [str(trained_run), str(trained_run), "--paired", "--draws", "100", "--json", str(out)]
    assert command.main(args) == 0
    assert "do not differ beyond chance" in capsys.readouterr().out
    found = json.loads(out.read_text())["differences"]
    assert all(item["difference"] == 0 == item["interval"]["low"] == item["interval"]["high"] for item in found)


@pytest.mark.parametrize(
    ("change", "named"),
    [("missing", "neither a run nor an experiment"), ("unfinished", "has no results"), ("draws", "--draws 5")],
)
def test_what_cannot_be_compared_is_one_sentence(trained_run, tmp_path, change, named, capsys):
    other = shutil.copytree(trained_run, tmp_path / "other")
    if change == "missing":
        (other / "config.json").unlink()
    if change == "unfinished":
        (other / "summary.json").write_text('{"status": "interrupted"}')
    more = ["--draws", "5"] if change == "draws" else []
    assert command.main([str(trained_run), str(other), *more]) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1


def test_a_walk_forward_is_compared_where_the_runs_of_its_folds_are_gone(walked, tmp_path):
    for name in ("experiment.json", "summary.json", "stitched.parquet"):
        (tmp_path / name).write_bytes((walked / name).read_bytes())
    summary = json.loads((tmp_path / "summary.json").read_text())
    for fold in summary["folds"]:
        fold["run"] = "gone"
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert command.read_curve(tmp_path).bars_per_year == summary["common"]["data"]["bars_per_year"]
