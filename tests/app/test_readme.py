"""The documentation runs, and its tables are the code's."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jtf_env.actions import ACTION_NAMES
from jtf_env.layouts import get_layout
from jtf_env.params import REWARD_PRESETS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SHORT = " --ppo.total-steps 1024 --ppo.num-envs 8 --ppo.hidden-sizes 8 --ppo.update-epochs 1 --window 10"
"""Added to the training commands of the README, which are otherwise run as they are written."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def table_rows(page: str) -> list[list[str]]:
    lines = (ROOT / "docs" / page).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def environment(folder: Path) -> dict[str, str]:
    """This process's environment, its Python first, compiled programs shared between the commands."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"),
    }


@pytest.fixture(scope="module")
def readme_folder(tmp_path_factory):
    """An empty folder in which the shell blocks of the README were run, in order."""
    folder = tmp_path_factory.mktemp("readme")
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    lines = [line for line in lines if not line.startswith(("pip", "pytest"))]
    script = "\n".join(line + SHORT if line.startswith("python -m jtf.train") else line for line in lines)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True, env=environment(folder)
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_readmes_commands_run_from_an_empty_folder(readme_folder):
    (summary,) = readme_folder.glob("runs/CLSK/*/summary.json")
    assert json.loads(summary.read_text())["status"] == "finished"
    assert len(list(summary.parent.glob("backtests/*/trades.csv"))) == 2


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_the_readmes_python_runs(readme_folder, number):
    done = subprocess.run(
        [sys.executable, "-c", blocks("python")[number]],
        cwd=readme_folder,
        capture_output=True,
        text=True,
        env=environment(readme_folder),
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
    rows = {row[0]: row[1:3] for row in table_rows("environment.md") if len(row) == 4}
    for name in vars(REWARD_PRESETS["composite"]):
        weights = [getattr(REWARD_PRESETS[preset], name) for preset in ("composite", "log_return")]
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
