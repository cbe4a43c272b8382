"""A cell: one training of an experiment, and the key that says whether it was done before."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jtf.config import RESUMABLE_CHANGES, RunConfig, config_to_dict
from jtf.results.run_directory import CELLS
from jtf.splits import Fold
from jtf.task import SymbolData, resolve_learner
from jtf_env.versions import ENV_VERSION, FEATURES_VERSION

UNDECIDING = (*RESUMABLE_CHANGES, "split")
"""Settings that decide nothing in a cell: what may differ on a resume, and the shares that its fold stands in for."""
KEY_LENGTH = 16


@dataclass(frozen=True)
class Cell:
    """One training: a symbol, a fold of its bars, settings; as many members as the settings say."""

    config: RunConfig
    """With every size that the device decides filled in."""
    fold: Fold
    fold_index: int
    """Place of the fold in its experiment, from 0."""
    lengths: tuple[int, int]
    """Rows that training and validation data are padded to (`jtf.problem.make_problem`)."""
    data_sha256: str
    """Hash of all bars of the symbol."""

    @property
    def symbol(self) -> str:
        """Symbol of the bars."""
        return self.config.symbol

    @cached_property
    def key(self) -> str:
        """Hash of all that decides the result: bars, fold, resolved settings and versions."""
        record = {
            "data": self.data_sha256,
            "fold": asdict(self.fold),
            "lengths": self.lengths,
            "settings": {name: value for name, value in config_to_dict(self.config).items() if name not in UNDECIDING},
            "versions": versions(),
        }
        text = json.dumps(record, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def versions() -> dict[str, Any]:
    """Return the versions a result depends on."""
    return {"jtf": version("jtf"), "jax": version("jax"), "features": FEATURES_VERSION, "environment": ENV_VERSION}


def plan_cells(config: RunConfig, data: SymbolData, folds: Sequence[Fold]) -> tuple[Cell, ...]:
    """Return a cell a fold, all of one shape, so that they share one compiled program.

    Sizes that follow from the number of training bars follow from the smallest fold's, and the data of every fold are
    padded to those of the largest.
    """
    learner = resolve_learner(config, data.layout, min(fold.train_bars for fold in folds))
    where = config.data.resolve() if config.data is not None else None
    resolved = replace(config, data=where, ppo=replace(config.ppo, **vars(learner)))
    history = data.window - 1
    train = max(fold.train[-1].stop - fold.train[0].start for fold in folds) + history
    validation = max(len(fold.validation) for fold in folds) + history
    return tuple(Cell(resolved, fold, index, (train, validation), data.sha256) for index, fold in enumerate(folds))


def cell_directory(out: Path, cell: Cell) -> Path:
    """Return the run directory of a cell: the same for every experiment that needs it."""
    return out / CELLS / cell.symbol.replace("/", "") / cell.key
