"""A tiny market on disk and one tiny trained run, shared by the application's tests."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

TINY = [
    "--window", "8", "--ppo.total-steps", "2048", "--ppo.num-envs", "8", "--ppo.num-steps", "64",
    "--ppo.hidden-sizes", "16", "--ppo.update-epochs", "4", "--ppo.minibatch-size", "256",
    "--ppo.validation-interval", "2", "--ppo.first-layer", "gather", "--ppo.learning-rate", "0.01",
    "--env.episode-bars", "64", "--env.fee", "0", "--no-report",
]  # fmt: skip
"""Flags of a run of four updates that ends with a policy that trades; the test adds --symbol, --data and --out."""


def random_walk(num_bars: int, seed: int = 0) -> pd.DataFrame:
    """24/7 bars of a random walk with 0.4 % a bar."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 4e-3, num_bars)))
    opened = np.concatenate([[100.0], close[:-1]])
    stretch = np.abs(rng.normal(0.0, 1e-3, (2, num_bars)))
    index = pd.date_range("2024-01-01", periods=num_bars, freq="15min", tz="UTC", name="timestamp")
    return pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close) * (1 + stretch[0]),
            "low": np.minimum(opened, close) * (1 - stretch[1]),
            "close": close,
            "volume": rng.uniform(1.0, 9.0, num_bars),
        },
        index=index,
    )


@pytest.fixture(scope="session")
def bars_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with AAAUSDT (1 000 bars) and BBBUSDT (1 000 others)."""
    folder = tmp_path_factory.mktemp("bars")
    random_walk(1_000).to_parquet(folder / "AAAUSDT_15Min.parquet")
    random_walk(1_000, seed=1).to_parquet(folder / "BBBUSDT_15Min.parquet")
    return folder


@pytest.fixture(scope="session")
def tiny_args(bars_folder: Path) -> list[str]:
    """Flags of a tiny run on AAAUSDT; add ``--out``."""
    return ["--symbol", "AAAUSDT", "--data", str(bars_folder), *TINY]


@pytest.fixture(scope="session")
def trained_run(tiny_args: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directory of a finished tiny run; tests may add to it, never change it."""
    from jtf.train import main

    out = tmp_path_factory.mktemp("runs")
    assert main([*tiny_args, "--out", str(out)]) == 0
    (run,) = (out / "AAAUSDT").iterdir()
    return run


@pytest.fixture(scope="session")
def two_symbols(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with AAAUSDT and BBBUSDT, 1 600 bars each."""
    found = tmp_path_factory.mktemp("bars")
    for seed, symbol in enumerate(("AAAUSDT", "BBBUSDT")):
        random_walk(1_600, seed).to_parquet(found / f"{symbol}_15Min.parquet")
    return found


@pytest.fixture(scope="session")
def evaluated(two_symbols: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a finished evaluation of two symbols; tests may add to it, never change it."""
    from jtf import evaluate

    out = tmp_path_factory.mktemp("out")
    flags = ["--symbols", "AAAUSDT,BBBUSDT", "--data", str(two_symbols), *TINY, "--folds", "2", "--members", "2"]
    assert evaluate.main([*flags, "--out", str(out)]) == 0
    (path,) = (out / "evaluate").iterdir()
    return path


@pytest.fixture(scope="session")
def crossed(two_symbols: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a finished combinatorial cross-validation; tests may add to it, never change it."""
    from jtf import walkforward

    out = tmp_path_factory.mktemp("out")
    flags = [
        "--symbol",
        "AAAUSDT",
        "--data",
        str(two_symbols),
        *TINY,
        "--scheme",
        "cpcv",
        "--folds",
        "3",
        "--tested",
        "2",
    ]
    more = ["--members", "1", "--split.validation", "0.2", "--out", str(out)]
    assert walkforward.main([*flags, *more, "--ppo.minibatch-size", "128"]) == 0
    (path,) = (out / "walkforward").iterdir()
    return path


@pytest.fixture(scope="session")
def walked(two_symbols: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a finished walk-forward of two folds; tests may add to it, never change it."""
    from jtf import walkforward

    out = tmp_path_factory.mktemp("out")
    flags = ["--symbol", "AAAUSDT", "--data", str(two_symbols), *TINY, "--folds", "2", "--members", "2"]
    assert walkforward.main([*flags, "--out", str(out)]) == 0
    (path,) = (out / "walkforward").iterdir()
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium; tests that need it skip where it, or its driver, is absent."""
    driver = pytest.importorskip("playwright.sync_api")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    with driver.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()
