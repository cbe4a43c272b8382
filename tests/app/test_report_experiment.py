"""The page of an experiment: folds, paths and symbols as their summary has them."""

import json

import pandas as pd
import pytest

from jtf import runs
from jtf.report import main
from jtf.report.experiment import experiment_page, stretch_content
from jtf.report.series import monthly_returns
from jtf.results.run_directory import read_summary
from tests.app.test_report import embedded


@pytest.fixture(params=["walked", "crossed", "evaluated"])
def paged(request):
    """Directory of each kind of experiment, its page written."""
    directory = request.getfixturevalue(request.param)
    assert main([str(directory)]) == 0
    return directory


def test_the_page_holds_what_the_json_twin_says(paged):
    assert json.loads(embedded(paged, "content")) == json.loads((paged / "report.json").read_text())


def test_pictures_are_left_beside_the_page(paged):
    names = {path.name for path in (paged / "figures").iterdir()}
    shown = json.loads((paged / "report.json").read_text())["shows"]
    expected = {"equity.png", "months.png"} if "equity" in shown else {"symbols.png"}
    own = {"folds.png"} if "equity" in shown and "folds" in shown else {"paths.png"} if "paths" in shown else set()
    assert names == expected | own
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (paged / "figures").iterdir())


def test_the_card_names_bars_costs_and_members(paged):
    content = json.loads((paged / "report.json").read_text())
    card = dict(content["card"]) | dict(content.get("symbols", [{"card": []}])[0]["card"])
    assert (
        "fee" in card["costs a side"]
        and "seeds" in card["members"]
        and "bars" in card
        and "steps" in card["trained, each fold"]
    )


def test_the_verdict_is_the_experiments(paged):
    content = json.loads((paged / "report.json").read_text())
    assert content["verdict"] == read_summary(paged)["verdict"]


def test_the_page_of_an_experiment_opens_without_complaint(paged, browser):
    from tests.app.test_report_page import Opened

    for width, scheme in ((1440, "light"), (390, "dark")):
        opened = Opened(browser, paged / "report.html", width, scheme)
        assert opened.complaints == []
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
        assert opened.page.locator(".figure").count() >= 1 and opened.empty_figures() == []
        opened.page.close()


def test_folds_and_the_stitched_curve_are_those_of_the_summary(walked):
    summary, (content, arrays, _) = read_summary(walked), experiment_page(walked)
    (stretch,) = content["segments"].values()
    equity = arrays["out of sample/equity"]
    assert equity[-1] / equity[0] - 1 == pytest.approx(stretch["tiles"][0]["value"], abs=1e-6)
    assert stretch["tiles"][0]["value"] == summary["stitched"]["metrics"]["equity"]["total_return"]
    for fold, record in zip(content["folds"]["AAAUSDT"], summary["folds"], strict=True):
        assert fold["out_of_sample"]["total_return"] == record["metrics"]["test"]["total_return"]
        assert fold["in_sample"]["sharpe"] == record["metrics"]["train"]["sharpe"]
    assert [label for label, _, _ in stretch["seen"]] == ["fold 0", "fold 1"]


def test_the_line_of_paths_is_the_one_with_the_median_sharpe_ratio(crossed):
    summary, (content, arrays, _) = read_summary(crossed), experiment_page(crossed)
    sharpes = {name: found["sharpe"] for name, found in summary["paths"]["metrics"].items() if name != "buy_and_hold"}
    shown = content["segments"]["out of sample"]["tiles"][0]["value"]
    assert shown == sorted(sharpes.values())[(len(sharpes) - 1) // 2]
    assert {name for name in arrays if "member" in name} == {f"out of sample/member/{n}" for n in range(len(sharpes))}


def test_page_and_terminal_show_the_same_median_path(crossed, capsys):
    (content, _, _), paths = experiment_page(crossed), read_summary(crossed)["paths"]
    sharpes = [path["sharpe"] for name, path in paths["metrics"].items() if name != "buy_and_hold"]
    assert len(sharpes) == 2 and f"{sharpes[0]:.2f}" != f"{sharpes[1]:.2f}"
    assert runs.main(["show", str(crossed)]) == 0
    text = content["segments"]["out of sample"]["tiles"][0]["text"]
    assert f"median of the paths: {text}" in capsys.readouterr().out
    assert dict(content["paths"]["rows"])["median"] == text


def test_every_symbol_has_its_row_with_its_verdict(evaluated):
    summary, (content, _, _) = read_summary(evaluated), experiment_page(evaluated)
    assert [row["symbol"] for row in content["symbols"]] == list(summary["symbols"])
    for row, record in zip(content["symbols"], summary["symbols"].values(), strict=True):
        assert row["verdict"] == record["verdict"]
        assert row["median"] == f"{record['spread']['folds']['median']:+.1%}"


def test_the_page_of_paths_describes_how_their_sharpe_ratios_are_distributed(crossed):
    metrics = read_summary(crossed)["paths"]["metrics"]
    shown, rows = experiment_page(crossed).content["paths"], dict(experiment_page(crossed).content["paths"]["rows"])
    values = [metrics[f"path_{name}"]["sharpe"] for name, _ in shown["sharpe"]]
    assert [value for _, value in shown["sharpe"]] == values == sorted(values) and len(values) == len(metrics) - 1
    assert rows["least"] == f"{values[0]:.2f}" and rows["most"] == f"{values[-1]:.2f}"
    above = sum(value > metrics["buy_and_hold"]["sharpe"] for value in values) / len(values)
    assert rows["paths above buying and holding"] == f"{above:.0%}"


def test_months_of_an_experiment_are_those_of_its_exchange(walked):
    summary = read_summary(walked)
    summary["common"]["data"]["timezone"] = "Asia/Tokyo"
    curves = pd.read_parquet(walked / "stitched.parquet")
    stretch = stretch_content(curves, "fold", "equity", summary["common"], ("policy", "members", "seed"), [])
    assert stretch["monthly"]["timezone"] == "Asia/Tokyo"
    times = pd.DatetimeIndex(curves["time"])
    assert stretch["monthly"]["policy"] == monthly_returns(times, curves["equity"].to_numpy(), "Asia/Tokyo")


def test_an_unfinished_experiment_is_refused_in_one_sentence(walked, tmp_path, capsys):
    (tmp_path / "experiment.json").write_bytes((walked / "experiment.json").read_bytes())
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "has not finished" in error
    assert [path.name for path in tmp_path.iterdir()] == ["experiment.json"]


def test_an_experiment_of_another_version_is_refused_in_one_sentence(walked, tmp_path, capsys):
    summary = read_summary(walked)
    del summary["luck"]
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    for name in ("experiment.json", "stitched.parquet"):
        (tmp_path / name).write_bytes((walked / name).read_bytes())
    assert main([str(tmp_path)]) == 2
    assert "was written by another version of jtf" in capsys.readouterr().err


def test_the_page_of_an_evaluation_shows_every_baseline(evaluated):
    summary, content = read_summary(evaluated), experiment_page(evaluated).content
    for row, record in zip(content["symbols"], summary["symbols"].values(), strict=True):
        found = record["spread"]
        medians = [one["median"] for one in (*found["baselines"].values(), *found["random"].values())]
        assert len(medians) == 6 and {f"{median:+.1%}" for median in medians} <= set(row["baselines"].values())


def test_the_tiles_of_a_walk_forward_say_how_sure_its_sharpe_ratio_is(walked):
    (stretch,), luck = experiment_page(walked).content["segments"].values(), read_summary(walked)["luck"]
    tiles = {tile["name"]: tile["value"] for tile in stretch["tiles"]}
    assert tiles["probabilistic_sharpe"] == luck["probabilistic_sharpe"]
    assert tiles["track_record"] == luck["minimum_track_record"]
