"""Alarms: what went wrong in a training, read off its records, with the likely cause and a remedy. No JAX."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

Record = dict[str, Any]


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
    """Churn: share of decisions that traded above this."""
    blind_variance: float = 0.05
    """Critic blind: explained variance below this."""
    large_kl: float = 0.10
    """Updates too large: KL divergence from the policy that collected the rollout above this, nats."""


class Alarm(NamedTuple):
    """One thing that is wrong with one member."""

    name: str
    seed: int
    sentence: str
    """What was measured."""
    cause: str
    """The likely one."""
    remedy: str


class Rule(NamedTuple):
    """One alarm: the mean of what it judges and when that rings."""

    name: str
    needs: str
    """Name that a record must have to be judged."""
    rings: Callable[[Sequence[Record], Limits], str | None]
    """Returns the sentence where it rings, else None."""
    cause: str
    remedy: str


def alarms(records: Iterable[Record], limits: Limits = Limits()) -> tuple[Alarm, ...]:
    """Return the alarms of a training by the last of its records (``metrics.jsonl``), in the order of `RULES`.

    Too few records to judge ring no alarm.
    """
    members: dict[int, list[Record]] = {}
    for record in records:
        members.setdefault(record["seed"], []).append(record)
    found = []
    for rule in RULES:
        for seed, own in members.items():
            count = limits.validations if rule.needs.startswith("val/") else limits.updates
            judged = [record for record in own if record.get(rule.needs) is not None][-count:]
            sentence = rule.rings(judged, limits) if len(judged) == count else None
            if sentence is not None:
                found.append(Alarm(rule.name, seed, sentence, rule.cause, rule.remedy))
    return tuple(found)


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
    traded = _median(records, "val/traded_share")
    if traded <= limits.churn_traded:
        return None
    return f"{traded:.0%} of the decisions trade, over the last {len(records)} validations."


def _critic_blind(records: Sequence[Record], limits: Limits) -> str | None:
    explained = _median(records, "train/explained_variance")
    if explained >= limits.blind_variance:
        return None
    return f"The value head explains {explained:.2f} of the variance of the returns over {len(records)} updates."


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
