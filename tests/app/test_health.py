"""Alarms ring on the training they are made for, and are silent on a healthy one."""

import pytest

from jtf.results.health import alarms

pytestmark = pytest.mark.quick


def training(seed: int = 0, updates: int = 12, **changed: float) -> list[dict]:
    """Return the records of a healthy training with some values `changed` ("/" written as "__")."""
    healthy = {"train/explained_variance": 0.4, "train/kl": 0.01}
    healthy |= {"val/exposure": 0.5, "val/num_trades": 40.0, "val/traded_share": 0.05}
    values = healthy | {name.replace("__", "/"): value for name, value in changed.items()}
    records = []
    for update in range(1, updates + 1):
        for prefix in ("train/", "val/"):
            own = {name: value for name, value in values.items() if name.startswith(prefix)}
            records.append({"seed": seed, "update": update, **own})
    return records


def test_a_healthy_training_rings_no_alarm():
    assert alarms(training()) == ()


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("always flat", {"val__exposure": 0.0, "val__num_trades": 0.0}),
        ("always in the market", {"val__exposure": 1.0, "val__num_trades": 0.0}),
        ("churn", {"val__traded_share": 0.6}),
        ("critic blind", {"train__explained_variance": -0.1}),
        ("updates too large", {"train__kl": 0.3}),
    ],
)
def test_an_alarm_rings_for_the_member_it_is_made_for(name, changed):
    (alarm,) = alarms(training(0) + training(1, **changed))
    assert (alarm.name, alarm.seed) == (name, 1) and alarm.cause and alarm.remedy


def test_too_few_records_ring_no_alarm():
    assert alarms(training(updates=2, train__kl=9.0, val__exposure=0.0)) == ()


def test_what_has_mended_itself_rings_no_alarm():
    assert alarms(training(updates=20, train__kl=9.0) + training(updates=12)) == ()


def test_a_validation_of_unknown_value_counts_as_not_judged():
    records = [record | {"val/exposure": None} if "val/exposure" in record else record for record in training()]
    assert alarms(records) == ()
