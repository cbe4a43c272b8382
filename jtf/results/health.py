"""Alarms: what goes wrong in a training, read off its records, with the likely cause and a remedy. No JAX."""

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

Record = dict[str, Any]
COSTS = "train/cost_share"
"""Share of the costs that training was charged; a validation has that of the update before it."""
MARK = "alarm/"
"""What the name of an alarm in a record begins with: 1 in the record that begins it, 0 in the one that ends it."""


@dataclass(frozen=True)
class Limits:
    """What a healthy training stays within. Shares and fractions are plain numbers."""

    validations: int = 3
    """Last validations that are judged, and least number of them."""
    updates: int = 10
    """Last updates that are judged, and least number of them."""
    flat_exposure: float = 0.01
    """Always flat: mean position size below this, as a fraction of equity."""
    held_exposure: float = 0.95
    """Always in the market: mean position size above this, as a fraction of equity, ..."""
    held_trades: int = 1
    """... and at most this many closed trades."""
    churn_traded: float = 0.30
    """Churn: share of decisions that traded above this, without a profit after costs."""
    churn_costs: float = 0.5
    """Churn is not judged while training is charged less than this share of the costs: nothing could teach it."""
    blind_variance: float = 0.05
    """Critic blind: explained variance below this in every update that is judged."""
    large_kl: float = 0.10
    """Updates too large: KL divergence from the policy that collected the rollout above this, nats."""


class Alarm(NamedTuple):
    """One thing that is wrong with one member."""

    name: str
    seed: int
    sentence: str
    """What was measured when it began."""
    cause: str
    """The likely one."""
    remedy: str
    begin: int
    """Update at which it began."""
    end: int | None = None
    """Update at which it had mended itself; None: it still rings."""


class Rule(NamedTuple):
    """One alarm: what it judges and when that rings."""

    name: str
    needs: str
    """Name that a record must have to be judged."""
    rings: Callable[[Sequence[Record], Limits], str | None]
    """Returns the sentence where it rings, else None."""
    cause: str
    remedy: str


class AlarmWatch:
    """Follows the records of a training as they come, and knows which alarms ring.

    A training that is resumed gives the `earlier` records of its file; those that it repeats are left out.
    """

    def __init__(self, earlier: Iterable[Record] = (), limits: Limits = Limits()) -> None:
        self._earlier = list(earlier)
        self._limits = limits
        counts = {rule.needs: limits.validations if rule.needs.startswith("val/") else limits.updates for rule in RULES}
        self._judged: dict[int, dict[str, deque[Record]]] = defaultdict(
            lambda: {name: deque(maxlen=count) for name, count in counts.items()}
        )
        self._costs: dict[int, float] = {}
        self._ringing: dict[tuple[str, int], Alarm] = {}
        self.ended: list[Alarm] = []
        """Alarms that have mended themselves."""

    @property
    def ringing(self) -> list[Alarm]:
        """The alarms that ring now, in the order of `RULES` and of their beginning."""
        names = [rule.name for rule in RULES]
        return sorted(self._ringing.values(), key=lambda alarm: (names.index(alarm.name), alarm.begin, alarm.seed))

    def follow(self, records: Sequence[Record]) -> tuple[list[Record], list[Alarm]]:
        """Take the next records in; return them with the alarms that begin or end marked, and those that begin."""
        self._catch_up(min(record["update"] for record in records))
        marked, begun = [], []
        for record in records:
            before = set(self._ringing)
            self._judge(record)
            after = set(self._ringing)
            changed = {name: 1 for name, _ in after - before} | {name: 0 for name, _ in before - after}
            marked.append(record | {mark(name): value for name, value in sorted(changed.items())})
            begun += [self._ringing[key] for key in sorted(after - before)]
        return marked, begun

    def _catch_up(self, update: int) -> None:
        """Judge the earlier records before `update`, once."""
        earlier, self._earlier = self._earlier, []
        for record in earlier:
            if record["update"] < update:
                self._judge(record)

    def _judge(self, record: Record) -> None:
        seed, update = record["seed"], int(record["update"])
        self._costs[seed] = record.get(COSTS, self._costs.get(seed, 1.0))
        record = record | {COSTS: self._costs[seed]}
        for needs, judged in self._judged[seed].items():
            value = record.get(needs)
            if value is None or not math.isfinite(value):
                continue
            judged.append(record)
            for rule in (rule for rule in RULES if rule.needs == needs and len(judged) == judged.maxlen):
                self._ring(rule, seed, update, rule.rings(tuple(judged), self._limits))

    def _ring(self, rule: Rule, seed: int, update: int, sentence: str | None) -> None:
        """Begin the alarm of a rule where there is a `sentence`, end it where there is none."""
        key = (rule.name, seed)
        if sentence is None and key in self._ringing:
            self.ended.append(self._ringing.pop(key)._replace(end=update))
        elif sentence is not None and key not in self._ringing:
            self._ringing[key] = Alarm(rule.name, seed, sentence, rule.cause, rule.remedy, update)


def mark(name: str) -> str:
    """Return the name under which an alarm stands in a record, e.g. ``alarm/always_flat``."""
    return MARK + name.replace(" ", "_")


def alarm_history(records: Iterable[Record], limits: Limits = Limits()) -> tuple[Alarm, ...]:
    """Return every alarm of a training by its records (``metrics.jsonl``).

    Those that ended come first, then those that still ring, in the order of `RULES`. Too few records ring no alarm.
    """
    watch = AlarmWatch(limits=limits)
    for record in records:
        watch.follow([record])
    return (*watch.ended, *watch.ringing)


def _always_flat(records: Sequence[Record], limits: Limits) -> str | None:
    exposure = _median(records, "val/exposure")
    if exposure >= limits.flat_exposure:
        return None
    return f"The position is {exposure:.1%} of equity on average over the last {len(records)} validations."


def _always_in_the_market(records: Sequence[Record], limits: Limits) -> str | None:
    exposure, trades = _median(records, "val/exposure"), _median(records, "val/num_trades")
    if exposure <= limits.held_exposure or trades > limits.held_trades:
        return None
    return (
        f"The position is {exposure:.0%} of equity on average over the last {len(records)} validations, with "
        f"{trades:g} closed trades."
    )


def _churn(records: Sequence[Record], limits: Limits) -> str | None:
    traded, earned = _median(records, "val/traded_share"), _median(records, "val/total_return")
    if traded <= limits.churn_traded or earned > 0 or records[-1][COSTS] < limits.churn_costs:
        return None
    return f"{traded:.0%} of the decisions trade and earn {earned:+.1%} after costs, over {len(records)} validations."


def _critic_blind(records: Sequence[Record], limits: Limits) -> str | None:
    explained = max(record["train/explained_variance"] for record in records)
    if explained >= limits.blind_variance:
        return None
    return f"The value head explains at most {explained:.2f} of the variance of the returns in {len(records)} updates."


def _updates_too_large(records: Sequence[Record], limits: Limits) -> str | None:
    divergence = _median(records, "train/kl")
    if divergence <= limits.large_kl:
        return None
    return f"An update moves the policy by {divergence:.2f} nats, median of the last {len(records)} updates."


def _median(records: Sequence[Record], name: str) -> float:
    return median(record.get(name) or 0.0 for record in records)


RULES = (
    Rule(
        "always flat", "val/exposure", _always_flat,
        "Costs are above the edge that was found, or there is none in these bars.",
        "Train longer; if it stays flat, believe it.",
    ),
    Rule(
        "always in the market", "val/exposure", _always_in_the_market,
        "The bars rise (or fall) over training, and holding earns the reward.",
        "Compare with buy and hold; train on a span with both directions.",
    ),
    Rule(
        "churn", "val/traded_share", _churn,
        "Costs are not felt: they are low, or the reward hides them.",
        "Check --env.fee and --env.slippage; use the log_return reward.",
    ),
    Rule(
        "critic blind", "train/explained_variance", _critic_blind,
        "The returns are noise to the value head; advantages are then noise too.",
        "Use more environments or a lower gamma.",
    ),
    Rule(
        "updates too large", "train/kl", _updates_too_large,
        "The learning rate is too high, or too many epochs reuse one rollout.",
        "Lower --ppo.learning-rate or --ppo.update-epochs.",
    ),
)  # fmt: skip
"""Every alarm."""
