"""The page of an experiment: what ``report.json`` says of a walk-forward, its paths, or several symbols. No JAX."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jtf.console import number
from jtf.errors import UserError
from jtf.experiment.stitched import read_stitched
from jtf.experiment.tables import baseline_cells
from jtf.report.arrays import minutes
from jtf.report.content import FORMAT, Tile, common_rows, data_content, tile, with_intervals
from jtf.report.figures import draw_equity, draw_folds, draw_months, draw_paths, draw_symbols, picture
from jtf.report.series import monthly_returns
from jtf.results.bar_account import find_drawdown
from jtf.results.metrics import sharpe_or_zero
from jtf.results.run_directory import SUMMARY, read_summary
from jtf.results.tables import MEMBER_EQUITY

PATH = "path_"
"""What the names of the paths' columns begin with."""
WHOLE = "out of sample"
"""Name of the one stretch the page shows: the test bars of all folds."""
SHOWN = ("total_return", "sharpe", "max_drawdown", "num_trades")

Arrays = dict[str, np.ndarray]


class Page(NamedTuple):
    """What `jtf.report.write.write_page` writes."""

    content: dict[str, Any]
    arrays: Arrays
    pictures: dict[str, bytes]
    """File name -> PNG."""


def experiment_page(directory: Path) -> Page:
    """Return what the page of an experiment says, its arrays and pictures.

    Raises `UserError` where it has not finished, or was written by another version.
    """
    summary = _finished(directory)
    builders = {"walkforward": _paths if "paths" in summary else _walkforward, "evaluate": _evaluation}
    if summary["kind"] not in builders:
        raise UserError(f"{directory} is an experiment of kind {summary['kind']!r}, which has no page.")
    try:
        page = builders[summary["kind"]](directory, summary)
    except (KeyError, TypeError):  # A key that this version does not write, or one that it needs.
        raise UserError(
            f"{directory / SUMMARY} was written by another version of jtf; start its command again."
        ) from None
    common: dict[str, Any] = {
        "format": FORMAT,
        "kind": "experiment",
        "directory": str(directory),
        "synthetic": summary["synthetic"],
        "notes": [],
        "verdict": summary["verdict"],
        "no_verdict": "These fits knew what came after the bars they are tested on: there is no verdict.",
    }
    return page._replace(content=common | page.content)


def _finished(directory: Path) -> dict[str, Any]:
    if not (directory / SUMMARY).is_file():
        raise UserError(f"{directory} has not finished; start its command again, it goes on where it stopped.")
    return read_summary(directory)


def _walkforward(directory: Path, summary: Mapping[str, Any]) -> Page:
    curves = read_stitched(directory)
    stitched, symbol = summary["stitched"], summary["symbol"]
    policy, held = stitched["metrics"]["equity"], stitched["metrics"]["buy_and_hold"]
    seeds = [name.removeprefix(MEMBER_EQUITY) for name in map(str, curves) if name.startswith(MEMBER_EQUITY)]
    folds = [_fold(index, fold) for index, fold in enumerate(summary["folds"])]
    stretch = stretch_content(curves, "fold", "equity", summary["common"], ("policy", "members", "seed"), seeds)
    content = {
        "title": f"{symbol} – walk-forward",
        "symbol": symbol,
        "headline": (
            f"Over {len(folds)} folds that no training had seen, after costs, the policy made "
            f"{policy['total_return']:+.1%}; buying and holding made {held['total_return']:+.1%}."
        ),
        "shows": ["tiles", "equity", "months", "folds", "bars"],
        "card": _card(directory, summary["common"], {"name": summary["name"], "folds": str(len(folds))}),
        "segments": {WHOLE: stretch | {"tiles": _walkforward_tiles(summary)}},
        "folds": {symbol: folds},
        "data": data_content(summary["common"]["data"]),
    }
    lines = {f"member/{seed}": f"{MEMBER_EQUITY}{seed}" for seed in seeds}
    title = f"{symbol}, out of sample"
    drawn = _stretch_pictures(title, curves, "equity", list(lines.values()), stretch)
    drawn["folds.png"] = picture(title, (1,), lambda axes: draw_folds(axes[0], folds))
    return Page(content, _arrays(curves, {"equity": "equity", **lines}), drawn)


def _walkforward_tiles(summary: Mapping[str, Any]) -> list[Tile]:
    stitched, test, luck = summary["stitched"], summary["metrics"]["test"], summary["luck"]
    policy, held = stitched["metrics"]["equity"], stitched["metrics"]["buy_and_hold"]
    found = [
        tile("total_return", policy["total_return"], held["total_return"]),
        tile("sharpe", policy["sharpe"], held["sharpe"]),
        tile("max_drawdown", policy["max_drawdown"], held["max_drawdown"]),
        tile("profit_factor", test["profit_factor"]),
        tile("num_trades", test["num_trades"]),
        _share("folds_with_profit", "folds with a profit", stitched["folds_with_profit"]),
        _share("folds_above_holding", "folds above buy and hold", stitched["folds_above_holding"]),
        _plain("sharpe_gap", "training Sharpe less test Sharpe", stitched["sharpe_gap"], "mean of the folds"),
        _plain("probabilistic_sharpe", "probabilistic Sharpe ratio", luck["probabilistic_sharpe"], "above 0"),
        _plain("deflated_sharpe", "deflated Sharpe ratio", luck["deflated_sharpe"], _trials(summary)),
        _track_record(luck["minimum_track_record"]),
        *_overfitting(summary.get("overfitting")),
    ]
    return with_intervals(found, luck)


def _paths(directory: Path, summary: Mapping[str, Any]) -> Page:
    curves, symbol = read_stitched(directory), summary["symbol"]
    metrics = summary["paths"]["metrics"]
    held = metrics["buy_and_hold"]
    names, middle = summary["paths"]["ranked"], summary["paths"]["middle"]
    sharpes = [(name.removeprefix(PATH), sharpe_or_zero(metrics[name]["sharpe"])) for name in names]
    tiles = [
        tile("sharpe", metrics[middle]["sharpe"], held["sharpe"]),
        tile("total_return", metrics[middle]["total_return"], held["total_return"]),
        tile("max_drawdown", metrics[middle]["max_drawdown"], held["max_drawdown"]),
        _share("share_with_profit", "paths with a profit", summary["paths"]["share_with_profit"]),
    ]
    stretch = stretch_content(
        curves, "group", middle, summary["common"], ("median path", "paths", "path"), _numbers(names)
    )
    content = {
        "title": f"{symbol} – combinatorial cross-validation",
        "symbol": symbol,
        "headline": (
            f"{len(summary['folds'])} fits, {len(names)} paths over every bar, after costs: Sharpe ratios from "
            f"{sharpes[0][1]:.2f} to {sharpes[-1][1]:.2f}; buying and holding {number(held['sharpe'], '.2f')}."
        ),
        "shows": ["tiles", "paths", "equity", "months", "bars"],
        "card": _card(directory, summary["common"], {"fits": str(len(summary["folds"])), "paths": str(len(names))}),
        "segments": {WHOLE: stretch | {"tiles": tiles}},
        "paths": {"sharpe": sharpes, "buy_and_hold": held["sharpe"], "rows": _distribution(sharpes, held["sharpe"])},
        "data": data_content(summary["common"]["data"]),
    }
    drawn = _stretch_pictures(f"{symbol}, median path", curves, middle, names, stretch)
    drawn["paths.png"] = picture(symbol, (1,), lambda axes: draw_paths(axes[0], sharpes, held["sharpe"]))
    columns = {f"member/{name.removeprefix(PATH)}": name for name in names}
    return Page(content, _arrays(curves, {"equity": middle, **columns}), drawn)


def _distribution(sharpes: Sequence[tuple[str, float]], held: float | None) -> list[list[str]]:
    """Return the rows ``[name, value]`` that describe the Sharpe ratios of the paths; a quantile is that of a path."""
    values = np.array([value for _, value in sharpes])
    rows = [
        [name, f"{np.percentile(values, percent, method='lower'):.2f}"]
        for name, percent in {"least": 0, "lower quartile": 25, "median": 50, "upper quartile": 75, "most": 100}.items()
    ]
    rows.append(["paths with a Sharpe ratio above 0", f"{np.mean(values > 0):.0%}"])
    return rows if held is None else [*rows, ["paths above buying and holding", f"{np.mean(values > held):.0%}"]]


def _evaluation(directory: Path, summary: Mapping[str, Any]) -> Page:
    symbols = summary["symbols"]
    ahead = [symbol for symbol, record in symbols.items() if _excess(record) > 0]
    rows = [_symbol(name, record) for name, record in symbols.items()]
    first = next(iter(symbols.values()))["common"]
    card = {"experiment": str(directory), "name": summary["name"], "symbols": ", ".join(symbols)}
    shared = dict(_rows(first))
    card |= {name: shared[name] for name in ("trained, each fold", "members", "layout", "device")}
    content = {
        "title": f"{len(symbols)} symbols – evaluation",
        "symbol": f"{len(symbols)} symbols",
        "headline": (
            f"Out of sample and after costs, {len(ahead)} of {len(symbols)} symbols made more than buying and holding, "
            "by the median of their folds."
        ),
        "shows": ["symbols", "folds"],
        "card": [[name, value] for name, value in card.items() if value],
        "segments": {},
        "symbols": rows,
        "folds": {
            name: [_fold(index, fold) for index, fold in enumerate(record["folds"])] for name, record in symbols.items()
        },
    }
    return Page(content, {}, {"symbols.png": picture("out of sample", (1,), lambda axes: draw_symbols(axes[0], rows))})


def _excess(record: Mapping[str, Any]) -> float:
    spread = record["spread"]
    return spread["folds"]["median"] - spread["baselines"]["buy_and_hold"]["median"]


def _symbol(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the table of symbols, as text, and its verdict."""
    spread, test = record["spread"], record["metrics"]["test"]
    return {
        "symbol": name,
        "asset_class": record["asset_class"],
        "median": number(spread["folds"]["median"], "+.1%"),
        "folds": _range(spread["folds"]),
        "members": _range(spread["members"]),
        "baselines": baseline_cells(spread),
        "sharpe": number(test["sharpe"], ".2f"),
        "deflated_sharpe": number(record["luck"]["deflated_sharpe"], ".2f"),
        "verdict": record["verdict"],
        "card": _rows(record["common"]),
        "values": {**spread["folds"], "buy_and_hold": spread["baselines"]["buy_and_hold"]["median"]},
    }


def _range(found: Mapping[str, Any]) -> str:
    return f"{100 * found['least']:+.1f} to {100 * found['most']:+.1f}"


def _card(directory: Path, common: Mapping[str, Any], own: Mapping[str, str]) -> list[list[str]]:
    """Return the rows ``[name, value]`` of the card: the experiment, what it alone has, what its folds share."""
    return [["experiment", str(directory)], *([name, value] for name, value in own.items()), *_rows(common)]


def _rows(common: Mapping[str, Any]) -> list[list[str]]:
    shared = common_rows(common, common["env_params"], common["seeds"])
    return [["trained, each fold" if name == "trained" else name, value] for name, value in shared.items() if value]


def stretch_content(
    curves: pd.DataFrame, part: str, line: str, common: Mapping[str, Any], names: tuple[str, str, str], fan: list[str]
) -> dict[str, Any]:
    """Return what the page says of the one stretch of an experiment.

    `curves` have the columns ``time``, `part`, `line` and ``buy_and_hold``; `names` are those of the line, of the fan
    around it, and of one of its lines; `common` is what the folds share.
    """
    times, equity, timezone = _times(curves), curves[line].to_numpy(), common["data"]["timezone"]
    starts = np.flatnonzero(np.append(True, np.diff(curves[part].to_numpy()) != 0))
    ends = np.append(starts[1:], len(curves) - 1)
    return {
        "start": times[0].isoformat(),
        "end": times[-1].isoformat(),
        "bars": len(curves),
        "ruined": False,
        "monthly": {
            "policy": monthly_returns(times, equity, timezone),
            "buy_and_hold": monthly_returns(times, curves["buy_and_hold"].to_numpy(), timezone),
            "timezone": timezone,
        },
        "drawdown": asdict(find_drawdown(equity, times)),
        "seen": [(f"{part} {index}", int(a), int(b)) for index, (a, b) in enumerate(zip(starts, ends, strict=True))],
        "members": fan,
        "line_names": names,
    }


def _stretch_pictures(
    title: str, curves: pd.DataFrame, line: str, fan: Sequence[str], stretch: Mapping[str, Any]
) -> dict[str, bytes]:
    """Return the pictures of the one stretch: the equity of `line` within its `fan` of columns, and its months."""
    times, equity, held = _times(curves), curves[line].to_numpy(), curves["buy_and_hold"].to_numpy()
    lines = [curves[column].to_numpy() for column in fan]
    name = stretch["line_names"][0]
    return {
        "equity.png": picture(title, (3, 1), lambda axes: draw_equity(axes, times, equity, held, lines, name)),
        "months.png": picture(title, (1,), lambda axes: draw_months(axes[0], stretch["monthly"])),
    }


def _times(curves: pd.DataFrame) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(curves["time"]).tz_localize(None).tz_localize("UTC")


def _arrays(curves: pd.DataFrame, lines: Mapping[str, str]) -> Arrays:
    """Return the arrays of the one stretch: time, buying and holding, and `lines` (name -> column)."""
    columns = {"buy_and_hold": "buy_and_hold", **lines}
    arrays = {name: curves[column].to_numpy(np.float32) for name, column in columns.items()}
    return {f"{WHOLE}/{name}": array for name, array in {"time": minutes(_times(curves)), **arrays}.items()}


def _fold(index: int, fold: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the strip draws of a fold."""
    span = fold["segments"]["test"]
    return {
        "name": f"fold {index}",
        "start": span["start"],
        "end": span["end"],
        "run": fold["run"],
        "in_sample": {name: fold["metrics"]["train"][name] for name in SHOWN},
        "out_of_sample": {name: fold["metrics"]["test"][name] for name in SHOWN},
        "buy_and_hold": {name: fold["buy_and_hold"][name] for name in SHOWN},
        "members": [member["test"]["total_return"] for member in fold["members"]],
    }


def _numbers(names: list[str]) -> list[str]:
    return sorted((name.removeprefix(PATH) for name in names), key=int)


def _share(name: str, label: str, value: float) -> Tile:
    return {"name": name, "label": label, "value": value, "text": f"{value:.0%}", "beside": ""}


def _plain(name: str, label: str, value: float | None, beside: str) -> Tile:
    return {"name": name, "label": label, "value": value, "text": number(value, ".2f"), "beside": beside}


def _track_record(bars: float | None) -> Tile:
    """Return the tile of the bars it takes to say that the Sharpe ratio is above 0."""
    text = "-" if bars is None else f"{math.ceil(bars):,}"
    beside = "bars to be 95 % sure of a Sharpe ratio above 0"
    return {"name": "track_record", "label": "minimum track record", "value": bars, "text": text, "beside": beside}


def _overfitting(found: Mapping[str, Any] | None) -> list[Tile]:
    """Return the tile of the choice among settings; none where there was none."""
    if found is None or found["probability"] is None:
        return []
    tile = _share("overfitting", "probability of overfitting", found["probability"])
    return [tile | {"beside": f"choosing the best of {found['num_settings']} walk-forwards"}]


def _trials(summary: Mapping[str, Any]) -> str:
    count = summary["luck"]["num_trials"]
    return f"among {count} trial{'s' if count != 1 else ''}"
