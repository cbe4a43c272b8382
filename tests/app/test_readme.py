"""The documentation runs, and its tables are the code's."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import readme
from benchmarks.readme import BLOCK, shorten, with_outputs
from jtf.errors import run_command
from jtf_env.actions import ACTION_NAMES
from jtf_env.assets import ASSETS, asset_class_of
from jtf_env.errors import BarsError
from jtf_env.layouts import get_layout
from jtf_env.params import REWARD_PRESETS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SHORT = " --ppo.total-steps 1024 --ppo.num-envs 8 --ppo.hidden-sizes 8 --ppo.update-epochs 1 --window 10"
"""Added to the training commands of the README, which are otherwise run as they are written."""


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def table_rows(page: str) -> list[list[str]]:
    lines = (ROOT / "docs" / page).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def environment() -> dict[str, str]:
    """This process's environment, its Python first."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def readme_folder(tmp_path_factory):
    """An empty folder in which the shell blocks of the README were run, in order."""
    folder = tmp_path_factory.mktemp("readme")
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    lines = [line for line in lines if not line.startswith(("pip", "pytest"))]
    script = "\n".join(line + SHORT if line.startswith("python -m jtf.train") else line for line in lines)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_readmes_commands_run_from_an_empty_folder(readme_folder):
    (summary,) = readme_folder.glob("runs/CLSK/*/summary.json")
    assert json.loads(summary.read_text())["status"] == "finished"
    assert len(list(summary.parent.glob("backtests/*/trades.csv"))) == 2


MODELS = "\n".join(blocks("python", (ROOT / "docs/models.md").read_text()))
"""One script: its second block reads the file that its first one writes."""
PYTHON = [*blocks("python"), *blocks("python", (ROOT / "docs/python.md").read_text()), MODELS]


@pytest.mark.parametrize("code", PYTHON)
def test_the_python_of_the_pages_runs(readme_folder, code):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=readme_folder,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr


def test_the_action_table_is_the_codec():
    rows = [row for row in table_rows("environment.md") if len(row) == 3 and row[0].isdigit()]
    assert [(int(row[0]), row[1]) for row in rows] == list(enumerate(ACTION_NAMES))


def test_the_observation_table_is_the_layout():
    rows = [row for row in table_rows("environment.md") if re.fullmatch(r"\d+-\d+", row[0])]
    first = 0
    for row, group in zip(rows, get_layout("v5.6.0").groups, strict=True):
        last = first + len(group.columns) - 1
        assert row == [f"{first}-{last}", group.name, group.source, str(group.warmup), ", ".join(group.columns)]
        first = last + 1


def test_the_reward_table_is_the_presets():
    table = [row for row in table_rows("environment.md") if len(row) == 5]
    (presets,) = (row[1:4] for row in table if row[0] == "component")
    assert set(presets) == set(REWARD_PRESETS)
    rows = {row[0]: row[1:4] for row in table}
    for name in vars(REWARD_PRESETS["composite"]):
        weights = [getattr(REWARD_PRESETS[preset], name) for preset in presets]
        assert [float(cell) for cell in rows[name]] == weights


def test_every_recorded_metric_is_documented(trained_run):
    lines = (trained_run / "metrics.jsonl").read_text().splitlines()
    recorded = {name for line in lines for name in json.loads(line)}
    documented = {name for row in table_rows("metrics.md") for name in re.split(r", | to ", row[0])}
    documented |= {f"train/action_share_{action}" for action in range(len(ACTION_NAMES))}
    assert recorded <= documented


def test_every_backtest_metric_is_documented(trained_run):
    summary = json.loads((trained_run / "summary.json").read_text())
    assert set(summary["metrics"]["test"]) <= {row[0] for row in table_rows("metrics.md")}


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_output_of_a_page_has_its_command(page):
    text = page.read_text()
    assert text.count("<!-- output: ") == text.count("<!-- /output -->") == len(BLOCK.findall(text))


def test_an_output_is_replaced_by_what_its_command_prints():
    page = "a\n<!-- output: echo 1 -->\nold\n<!-- /output -->\nb\n<!-- output: echo 2 -->\n<!-- /output -->\n"
    once = with_outputs(page, lambda command: f"{command}!  \n")
    assert once == (
        "a\n<!-- output: echo 1 -->\n```text\necho 1!\n```\n<!-- /output -->\nb\n"
        "<!-- output: echo 2 -->\n```text\necho 2!\n```\n<!-- /output -->\n"
    )
    assert with_outputs(once, lambda command: f"{command}!") == once


def test_the_middle_of_a_training_is_left_out():
    lines = [f"smoke | update {i}/6 | x" for i in range(1, 7)]
    assert shorten("\n".join(["start", *lines, "end", ""])).splitlines() == [
        "start", *lines[:2], "...", lines[-1], "end",
    ]  # fmt: skip


def test_a_command_that_fails_is_said_and_nothing_is_written(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- output: echo no && false -->\n<!-- /output -->\n")
    before = page.read_text()
    assert run_command(lambda: readme.main([str(page)])) == 2
    assert "'echo no && false' ended with exit code 1: no" in capsys.readouterr().err
    assert page.read_text() == before


def test_commands_of_a_page_share_one_folder(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- output: echo 5 > a -->\n<!-- /output -->\n<!-- output: cat a -->\n<!-- /output -->\n")
    assert readme.main([str(page)]) == 0
    assert "```text\n5\n```" in page.read_text()


def test_the_asset_table_is_the_codes():
    rows = [row for row in table_rows("data.md") if row[0] in ASSETS]
    assert [row[0] for row in rows] == list(ASSETS)
    for name, calendar, fee, slippage, shorts in rows:
        asset = ASSETS[name]
        assert (float(fee), float(slippage), shorts == "yes") == (asset.fee, asset.slippage, asset.allow_short)
        assert calendar == f"{asset.calendar or 'around the clock'}, {asset.timezone}"


def test_every_spelling_of_the_symbol_table_is_read_as_it_says():
    classes = {"crypto": "crypto", "US equity": "us_equity"}
    rows = [row for row in table_rows("data.md") if len(row) == 3 and row[1] in (*classes, "refused")]
    assert len(rows) == 5
    for _, read_as, examples in rows:
        for symbol in re.findall("`(.+?)`", examples):
            if read_as == "refused":
                with pytest.raises(BarsError):
                    asset_class_of(symbol)
            else:
                assert asset_class_of(symbol) == classes[read_as]


def test_every_link_of_a_page_leads_somewhere():
    for page in (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        links = re.findall(r"\]\(([^)#]+)", page.read_text())
        local = [link for link in links if not link.startswith("http")]
        assert [link for link in local if not (page.parent / link).exists()] == []
