"""The page in a browser: headless Chromium, driven over its DevTools protocol. Skipped where there is none."""

import json
from pathlib import Path
from typing import Any

import pytest

from jtf.report import write_report

LOOKS = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def report(trained_run: Path) -> Path:
    return write_report(trained_run)


@pytest.fixture(scope="module")
def twin(report: Path) -> dict[str, Any]:
    return json.loads(report.with_name("report.json").read_text())


class Opened:
    """A page that has drawn itself, and what it complained of or asked the network for."""

    def __init__(self, browser: Any, path: Path, width: int = 1440, scheme: str = "light") -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.resolve().as_uri())
        self.page.wait_for_selector("html[data-ready]", timeout=60_000)

    def choose(self, segment: str) -> None:
        """Choose a segment and wait until all of it is drawn."""
        self.page.click(f'button[data-segment="{segment}"]')
        self.page.wait_for_selector("html[data-ready]")

    def empty_figures(self) -> list[str]:
        """Return the figures in which nothing is drawn."""
        figures = self.page.locator(".figure").all()
        return [str(one.get_attribute("id")) for one in figures if one.locator(".trace").count() == 0]

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_inner_texts()


@pytest.fixture(scope="module")
def opened(browser: Any, report: Path) -> Opened:
    return Opened(browser, report)


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_the_page_opens_without_complaint_network_or_sideways_scrolling(browser, report, tmp_path, width, scheme):
    opened = Opened(browser, report, width, scheme)
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.page.locator(".figure").count() >= 5 and opened.empty_figures() == []
    assert len(opened.page.screenshot(full_page=True)) > 50_000
    background = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    opened.page.close()


def test_tiles_agree_with_the_json(opened, twin):
    for name, segment in twin["segments"].items():
        opened.choose(name)
        assert opened.texts("#tiles .tile b") == [tile["text"] for tile in segment["tiles"]]
        assert opened.texts("#tiles .tile span:last-child") == [tile["beside"] for tile in segment["tiles"]]


def test_the_verdict_stands_with_its_reasons(opened, twin):
    assert opened.texts("#verdict") == [twin["verdict"]["status"]]
    assert opened.texts("#reasons li") == twin["verdict"]["reasons"]
    assert opened.texts("#headline") == [twin["headline"]]


def test_the_inspector_answers_a_click(opened, twin):
    page = opened.page
    opened.choose("test")
    before = page.get_attribute("#facts", "data-row")
    page.locator("#price").scroll_into_view_if_needed()
    box = page.locator("#price .nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#price .hoverlayer .legend")
    hover = page.locator("#price .hoverlayer .legend").text_content()
    assert " UTC" in hover and "close" in hover
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    row = page.get_attribute("#facts", "data-row")
    bars = twin["segments"]["test"]["bars"]
    assert row != before and abs(int(row) - bars / 2) < bars / 10
    assert len(opened.texts("#columns .column")) == len(twin["observed"]["columns"]) == 58
    odds = [float(text.removesuffix(" %")) for text in opened.texts("#odds > span") if text.endswith(" %")]
    assert len(odds) == 8 and sum(odds) == pytest.approx(100, abs=0.5)


def test_the_inspector_shows_what_the_files_hold(opened, trained_run, twin):
    from jtf.results.results import read_result

    result = read_result(trained_run)
    page = opened.page
    opened.choose("test")
    page.click("text=fill ›")
    row = int(page.get_attribute("#facts", "data-row"))
    curve = result.curves[result.curves["segment"] == "test"].iloc[row]
    facts = opened.texts("#facts dd")
    assert facts[0] == f"{curve['time']:%Y-%m-%d %H:%M} UTC" and facts[1] == f"{curve['close']:,.2f}"
    assert facts[2] == twin["names"]["actions"][curve["action"]]
    (fill, *_) = result.fills[result.fills["segment"] == "test"].to_dict("records")[1:]
    assert f"{fill['price']:,.2f}" in facts[3]
    column = result.observations["rsi"].iloc[row]
    shown = next(text for text in opened.texts("#columns .column") if text.startswith("rsi\n"))
    assert f"{float(column):.2f}" in shown


def test_trades_are_sorted_by_a_click_and_downloaded_as_csv(opened, trained_run):
    from jtf.results.results import read_result

    page = opened.page
    opened.choose("train")
    trades = read_result(trained_run).trades
    trades = trades[trades["segment"] == "train"]
    for _ in range(2):
        page.locator("#trades th", has_text="net, USD").click()
    assert opened.texts("#trades tbody tr:first-child td:nth-child(8)") == [f"{trades['net'].max():,.2f}"]
    with page.expect_download() as download:
        page.click("#csv")
    lines = Path(download.value.path()).read_text().splitlines()
    assert len(lines) == len(trades) + 1 and lines[0].startswith("entry_time,exit_time,direction")
    assert float(lines[1].split(",")[8]) == trades["net"].iloc[0]


def test_a_zoom_is_undone_by_a_double_click(opened, twin):
    page = opened.page
    opened.choose("test")
    span = "document.getElementById('equity').layout.xaxis.range.map(Math.round)"
    whole = page.evaluate(span)
    assert whole == [0, twin["segments"]["test"]["bars"] - 1]
    page.evaluate("Plotly.relayout('equity', {'xaxis.range[0]': 20, 'xaxis.range[1]': 60})")
    assert page.evaluate(span) == [20, 60]
    page.locator("#equity").scroll_into_view_if_needed()
    page.locator("#equity .nsewdrag").first.dblclick()
    page.wait_for_function(f"{span}[0] === 0")
    assert page.evaluate(span) == whole


def test_the_log_scale_is_a_toggle(opened):
    page = opened.page
    kind = "document.getElementById('equity').layout.yaxis.type"
    page.click("#log")
    assert page.evaluate(kind) == "log"
    page.click("#log")
    assert page.evaluate(kind) == "linear"


def test_a_backtest_opens_without_complaint(browser, trained_run):
    from jtf import backtest

    assert backtest.main(["--run", str(trained_run), "--segment", "all", "--name", "opened", "--in-sample"]) == 0
    opened = Opened(browser, trained_run / "backtests" / "opened" / "report.html", 390, "dark")
    assert opened.complaints == [] and "no verdict" in opened.texts("#verdict")[0]
    opened.page.close()
