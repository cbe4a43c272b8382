"""All the learner needs of one symbol and one fold: scaler, training data, environment and validation."""

from dataclasses import dataclass

import numpy as np

from jtf.environment import TradingData, make_environment, make_validation, on_device
from jtf.results.metrics import annualisation
from jtf.splits import Fold
from jtf_env.market import Market, fold_market, scale_market
from jtf_env.params import EnvParams
from jtf_env.scaler import Scaler, fit_scaler, long_run_scaler
from jtf_ppo.types import Environment, Validation


@dataclass(frozen=True, eq=False)
class Problem:
    """What is learnt, and what chooses the checkpoint."""

    fold: Fold
    scaler: Scaler
    """Fitted on the fold's training bars and the windows before them, in float64."""
    environment: Environment
    data: TradingData
    """The standardised training rows and the parameters, float32 on the device."""
    validation: Validation

    @property
    def usable_rows(self) -> int:
        """Rows of the training data that can be addresses."""
        return int(np.sum(np.asarray(self.data[0].segment_end) >= 0))


def make_problem(
    natural: Market,
    fold: Fold,
    params: EnvParams,
    bars_per_year: float,
    *,
    lengths: tuple[int, int] | None = None,
    cost_warmup: float = 0.0,
    long_run: bool = False,
) -> Problem:
    """Return the problem of one fold.

    Parameters
    ----------
    natural: float64 market of all bars in natural units (``build_market(bars, layout, dtype=jnp.float64)``).
    params: plain numbers; they are put on the device here.
    bars_per_year: annualises the validation's Sharpe ratio.
    lengths: rows that training and validation data are padded to, so that folds and symbols of other sizes share one
        compiled program; None pads nothing.
    cost_warmup: share of the training over which fee and slippage rise from 0 to full; 0 is off. Validation is always
        at full costs.
    long_run: whether bar columns are divided by their deviation in the long run (`jtf_env.scaler.long_run_scaler`).
    """
    rows = training_rows(natural, fold)
    scaler = long_run_scaler(fit_scaler(*rows), rows[0]) if long_run else fit_scaler(*rows)
    train_length, validation_length = lengths or (None, None)
    market = scale_market(natural, scaler)
    train = fold_market(market, [(part.start, part.stop) for part in fold.train], train_length)
    held_out = (fold.validation.start, fold.validation.stop)
    traced = on_device(params)
    return Problem(
        fold=fold,
        scaler=scaler,
        environment=make_environment(train, cost_warmup),
        data=(train, traced),
        validation=make_validation(
            fold_market(market, [held_out], validation_length), traced, annualisation(bars_per_year)
        ),
    )


def training_rows(natural: Market, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows ``features [N, F]``, ``context [N, C]`` that training decisions see, each once."""
    seen = np.zeros(natural.num_bars, bool)
    for stretch in fold.train:
        seen[stretch.start - natural.window + 1 : stretch.stop] = True
    return np.asarray(natural.features)[seen], np.asarray(natural.context)[seen]
