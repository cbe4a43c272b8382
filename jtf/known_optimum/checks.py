"""Learning checks: a policy is trained where the optimum is known and must reach it on bars nobody has seen.

A check runs the whole chain: environment, engine, validation, choice of the best parameters, NumPy inference and
backtest. Where something can be earned the policy must earn nearly all of it; where nothing can be earned it must not
trade. The parameters are picked on bars between training and the check, as in a real run.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Literal

import jax
import numpy as np

from jtf.config import RunConfig
from jtf.known_optimum.markets import MARKETS, REAL_COST, KnownOptimumMarket, known_market
from jtf.known_optimum.programme import backtest_actions
from jtf.models.policy import Params, Policy, row_outputs
from jtf.problem import make_problem
from jtf.splits import Segment, embargo_bars
from jtf_env import mirror
from jtf_env.actions import HOLD
from jtf_env.layouts import DEFAULT_WINDOW
from jtf_env.market import scale_market
from jtf_env.mirror.backtest import run_backtest
from jtf_env.mirror.market import Market
from jtf_env.scaler import Scaler
from jtf_ppo import PPOConfig, resolve, train

Measure = Literal["score", "exposure", "profit", "ratio"]

EMBARGO = embargo_bars(DEFAULT_WINDOW)
VALIDATION_BARS, CHECK_BARS = 15_000, 40_000
"""Bars after training: the first pick the parameters, the rest are the check."""
BARS_PER_YEAR = 35_040
"""Bars a year of a market that never closes."""
WARM_UP = 200
"""Bars before the first decision of a layout at window 100."""
UPDATES = 24
"""Of a check that does not say why it needs more or gets along with fewer."""
LEARNER: dict[str, Any] = {
    "hidden_sizes": (64,),
    "num_envs": 4096,
    "minibatch_size": 2048,
    "ent_coef": 0.0,
    "dropout": 0.5,
    "checkpoint_interval": 0,
}
"""Settings of every check: the defaults of a run, its cost warm-up included, but for sizes, entropy bonus and dropout.

Dropout is off in a run. Here few columns tell something, so the last parameters overfit without it: on *costly_regime*
they earn 0.86 of the optimum in expectation, 0.92 with it; the best of them 0.937 and 0.945 (means of seeds 5 to 8).
How much noise is right depends on how much of a return can be known, and on how many columns tell nothing; where it is
not the default, a docstring gives the reason. No setting was chosen on seeds 0 to 4, which the checks use,
but the 28 000 bars of *regime*: three trainings on seed 0 were among what they were chosen by.
"""


@dataclass(frozen=True)
class LearningCheck:
    """One market and what a policy must show on it."""

    market: str
    updates: int
    bound: float
    measure: Measure = "score"
    """score: normalised score (1 is the optimum), at least the bound. exposure: of the last parameters, not of those
    that validated best, which without an edge were lucky there; at most the bound. profit: at most the bound. ratio:
    of the score to that of the 51-column layout, at least the bound."""
    cost: float | None = None
    """Of a trade, a side, as a fraction; None is the market's own."""
    layout: str = "v5.6.0"
    train_bars: int = 14_000
    check_bars: int = CHECK_BARS
    short_seeds: int = 1
    """Seeds whose median is judged in a short selftest."""
    learner: dict[str, Any] = field(default_factory=dict)
    """Settings that differ from `LEARNER`."""
    without_hour: dict[str, Any] = field(default_factory=dict)
    """ratio: the same for the 51-column layout, at its own best."""


@dataclass(frozen=True)
class CheckResult:
    """What a policy reached in a check."""

    market: str
    layout: str
    cost: float
    """Of a trade, a side, as a fraction."""
    measure: Measure
    value: float
    """Median over the seeds."""
    bound: float
    passed: bool
    seconds: float
    """All seeds, compile included."""
    values: tuple[float, ...]
    """One a seed."""


REGIME_BARS = 28_000
"""Ridge regression on the signal's last 100 bars earns no more than 0.96 of the optimum from 14 000 (seeds 5 to 10)."""
COSTLY = {"feature_noise": 2.0}
"""The filter knows 0.9 % of the variance of a bar's return, so 14 000 bars ask for a stronger penalty. Ridge regression
on the signal's last 100 bars earns 0.68, 0.94, 0.90 of the optimum in expectation at the penalties of noise 1, 2, 3
(means of seeds 5 to 10). 36 updates, because the score still rises after 24."""
COSTLY_CHECK_BARS = 160_000
"""Over 40 000 bars, what a policy earns is 0.05 of the optimum off its expectation (standard deviation of ridge
policies with noise 2, seeds 5 to 10): the noise of a bar is ten times the drift. A median of five seeds would be luck.
"""
HOURLY = {"feature_noise": 2.0}
"""50 of the 51 windowed columns are distractors of unit deviation, which the policy overfits at the default noise."""
WITHOUT_HOUR = {"learning_rate": 3e-4, "dropout": 0.0}
"""51 columns need what the windows hold: noise 0.5, 1, 2 leave them 0.36, 0.44, 0 of the optimum (seeds 5 to 7), and
dropout leaves them 0.05 instead of 0.27 (seed 5)."""
CHEAP_NOISE = {"feature_noise": 4.0}
"""At 2 bp a side against noise of 20, trading what a policy overfits costs too little to deter it: at noise 1 and 2 it
ends with an exposure of 0.8, at 4 flat (seed 5). At 27 bp it ends flat at noise 1."""
ACCOUNT = {"feature_noise": 0.5, "num_envs": 1024, "minibatch_size": None}
"""The market of *regime*, in a quarter of the environments and 16 updates, because a policy that sees its account pays
the later layers for every sample. Minibatches are the default: as many samples as stand on 2 048 rows. 0.92, 0.91 of
the optimum at the default noise, 0.93, 0.95 so (seeds 5, 6)."""
PAYING = (
    LearningCheck("next_bar", UPDATES, 0.95),
    LearningCheck("regime", UPDATES, 0.95, train_bars=REGIME_BARS),
    LearningCheck("costly_regime", 36, 0.90, check_bars=COSTLY_CHECK_BARS, learner=COSTLY),
    LearningCheck("drift", UPDATES, 0.95),
    LearningCheck("hourly", UPDATES, 0.90, learner=HOURLY),
)
"""Markets in which something can be earned."""
CONTROLS = (
    LearningCheck("noise", UPDATES, 0.05, "exposure", learner=CHEAP_NOISE),
    LearningCheck("noise", UPDATES, 0.05, "exposure", cost=REAL_COST),
    LearningCheck("shuffled", UPDATES, 0.0, "profit"),
    LearningCheck("shuffled", UPDATES, 0.0, "profit", cost=REAL_COST),
)
"""Markets in which nothing can be earned."""
SHORT_UPDATES = 12
SLOW_TO_LEARN = "costly_regime"
"""Its score still rises after `SHORT_UPDATES`, and a single training can miss: one in five ended at 0.85."""
SHORT = tuple(
    replace(check, short_seeds=3) if check.market == SLOW_TO_LEARN else replace(check, updates=SHORT_UPDATES)
    for check in (*PAYING, *CONTROLS)
)
"""As many seeds as `short_seeds` says."""
SEEN = LearningCheck("regime", 16, 0.85, layout="v2.7.0", train_bars=REGIME_BARS, learner=ACCOUNT)
"""*regime* with the six columns of the account, by the sample engine."""
FULL = (
    *PAYING,
    SEEN,
    LearningCheck("hourly", UPDATES, 1.8, "ratio", learner=HOURLY, without_hour=WITHOUT_HOUR),
    *CONTROLS,
)
"""Five seeds."""


def run_check(check: LearningCheck, seeds: Sequence[int]) -> CheckResult:
    """Train once a seed and judge the median."""
    started = time.perf_counter()
    values = tuple(measure_seed(check, seed) for seed in seeds)
    middle = median(values)
    passed = middle >= check.bound if check.measure in ("score", "ratio") else middle <= check.bound
    cost = MARKETS[check.market].cost if check.cost is None else check.cost
    seconds = time.perf_counter() - started
    return CheckResult(check.market, check.layout, cost, check.measure, middle, check.bound, passed, seconds, values)


def measure_seed(check: LearningCheck, seed: int) -> float:
    """Return what the check measures, for the market and the learner of one seed."""
    known = make_market(check, check.layout, seed)
    actions = learn(check, check.learner, known, seed)
    segment = check_segment(check, known)
    if check.measure == "exposure":
        return float(np.abs(backtest_actions(known.bars, actions, known.params, segment).positions).mean())
    if check.measure == "profit":
        return known.net_log_return(actions, segment)
    score = known.normalised_score(actions, segment)
    if check.measure == "score":
        return score
    without = make_market(check, "v5.5.0", seed)
    return score / max(without.normalised_score(learn(check, check.without_hour, without, seed), segment), 1e-3)


def make_market(check: LearningCheck, layout: str, seed: int) -> KnownOptimumMarket:
    """Return the market of a check: warm-up, training, embargo, validation, embargo, check."""
    unseen = VALIDATION_BARS + EMBARGO + check.check_bars
    num_bars = WARM_UP + check.train_bars + EMBARGO + unseen
    return known_market(check.market, num_bars, seed, layout, unseen_bars=unseen, cost=check.cost)


def check_segment(check: LearningCheck, known: KnownOptimumMarket) -> Segment:
    """Return the bars nobody has seen: neither the learner nor the choice of its parameters."""
    return Segment(known.unseen.stop - check.check_bars, known.unseen.stop)


def learn(check: LearningCheck, learner: dict[str, Any], known: KnownOptimumMarket, seed: int) -> np.ndarray:
    """Train, take the parameters the check is about, and return their ``[T]`` actions through NumPy inference."""
    validation = Segment(known.unseen.start, known.unseen.start + VALIDATION_BARS)
    fold = known.fold(validation, check_segment(check, known))
    problem = make_problem(known.natural, fold, known.params, BARS_PER_YEAR, cost_warmup=RunConfig.cost_warmup)
    settings = LEARNER | learner
    settings["total_steps"] = check.updates * settings["num_envs"] * PPOConfig.num_steps
    config = resolve(
        PPOConfig(**settings, validation_interval=-(-check.updates // 9), seed=seed),
        jax.default_backend(),
        problem.environment.address_only,
        problem.usable_rows,
    )
    (member,) = train(problem.environment, problem.data, config, validation=problem.validation).members
    params = member.params if check.measure == "exposure" else member.best_params
    if not problem.environment.address_only:
        return account_actions(params, problem.scaler, known, check_segment(check, known))
    whole = scale_market(known.natural, problem.scaler)
    outputs = row_outputs(params, np.asarray(whole.features), np.asarray(whole.context), whole.first_bar)
    return np.argmax(outputs.logits, axis=1)


def account_actions(params: Params, scaler: Scaler, known: KnownOptimumMarket, segment: Segment) -> np.ndarray:
    """Return the ``[T]`` actions of a network that sees its account, asked bar by bar over `segment`; else HOLD."""
    natural = {name: getattr(known.natural, name) for name in Market.__dataclass_fields__}
    natural |= {name: np.asarray(field) for name, field in natural.items() if isinstance(field, jax.Array)}
    market = mirror.scale_market(Market(**natural), scaler)
    policy = Policy(
        members=(params,), seeds=(0,), scaler=scaler, symbol=known.name, layout=market.layout, window=market.window,
        env_params=known.params, bars_per_year=BARS_PER_YEAR, data_kind="synthetic",
    )  # fmt: skip
    backtest = run_backtest(market, policy.decider(market), known.params, segment.start, segment.stop)
    actions = np.full(market.num_bars, HOLD)
    actions[backtest.bars[:-1]] = backtest.actions
    return actions
