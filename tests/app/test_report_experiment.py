"""The page of an experiment: folds, paths and symbols as their summary has them."""

import json

import pytest

from jtf.report import main
from jtf.report.experiment import experiment_content
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


def test_the_verdict_is_the_experiments(paged):
    content = json.loads((paged / "report.json").read_text())
    assert content["verdict"] == read_summary(paged)["verdict"]


def test_the_page_of_an_experiment_opens_without_complaint(paged, browser):
    from tests.app.test_report_page import Opened

    for width, scheme in ((1440, "light"), (390, "dark")):
        opened = Opened(browser, paged / "report.html", width, scheme)
        assert opened.complaints == []
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
        opened.page.close()


def test_folds_and_the_stitched_curve_are_those_of_the_summary(walked):
    summary, (content, arrays) = read_summary(walked), experiment_content(walked)
    (stretch,) = content["segments"].values()
    equity = arrays["out of sample/equity"]
    assert equity[-1] / equity[0] - 1 == pytest.approx(stretch["tiles"][0]["value"], abs=1e-6)
    assert stretch["tiles"][0]["value"] == summary["stitched"]["metrics"]["equity"]["total_return"]
    for fold, record in zip(content["folds"]["AAAUSDT"], summary["folds"], strict=True):
        assert fold["out_of_sample"]["total_return"] == record["metrics"]["test"]["total_return"]
        assert fold["in_sample"]["sharpe"] == record["metrics"]["train"]["sharpe"]
    assert [label for label, _, _ in stretch["seen"]] == ["fold 0", "fold 1"]


def test_the_line_of_paths_is_the_one_with_the_median_sharpe_ratio(crossed):
    summary, (content, arrays) = read_summary(crossed), experiment_content(crossed)
    sharpes = {name: found["sharpe"] for name, found in summary["paths"]["metrics"].items() if name != "buy_and_hold"}
    shown = content["segments"]["out of sample"]["tiles"][0]["value"]
    assert shown == sorted(sharpes.values())[(len(sharpes) - 1) // 2]
    assert {name for name in arrays if "member" in name} == {f"out of sample/member/{n}" for n in range(len(sharpes))}


def test_every_symbol_has_its_row_with_its_verdict(evaluated):
    summary, (content, _) = read_summary(evaluated), experiment_content(evaluated)
    assert [row["symbol"] for row in content["symbols"]] == list(summary["symbols"])
    for row, record in zip(content["symbols"], summary["symbols"].values(), strict=True):
        assert row["verdict"] == record["verdict"]
        assert row["median"] == f"{record['spread']['folds']['median']:+.1%}"


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
