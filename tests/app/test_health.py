"""Alarms ring on the training they are made for, and are silent on a healthy one."""

import pytest

from jtf.report.training import training_content
from jtf.results.health import Alarm, AlarmWatch, alarm_history

pytestmark = pytest.mark.quick


def alarms(records: list[dict]) -> tuple[Alarm, ...]:
    """Return the alarms that ring at the end of a training."""
    return tuple(alarm for alarm in alarm_history(records) if alarm.end is None)


def training(seed: int = 0, updates: int = 12, **changed: float) -> list[dict]:
    """Return the records of a healthy training with some values `changed` ("/" written as "__")."""
    healthy = {"train/explained_variance": 0.4, "train/kl": 0.01}
    healthy |= {"val/exposure": 0.5, "val/num_trades": 40.0, "val/traded_share": 0.05, "val/total_return": 0.1}
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
        ("churn", {"val__traded_share": 0.6, "val__total_return": -0.1}),
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


def test_trading_often_at_a_profit_after_costs_is_no_churn():
    assert alarms(training(val__traded_share=0.6, val__total_return=0.2)) == ()


def test_churn_is_not_judged_while_training_is_charged_less_than_half_of_the_costs():
    churning = {"val__traded_share": 0.6, "val__total_return": -0.1}
    assert alarms(training(**churning, train__cost_share=0.4)) == ()
    assert [alarm.name for alarm in alarms(training(**churning, train__cost_share=0.6))] == ["churn"]


def test_a_critic_that_explained_something_in_one_of_the_last_updates_is_not_blind():
    records = training(train__explained_variance=-0.2)
    records[-2]["train/explained_variance"] = 0.3
    assert alarms(records) == ()


def test_an_alarm_knows_when_it_began_and_when_it_had_mended_itself():
    # Ten updates of 9 nats ring; the median of the last ten falls when five of them and half of the sixth are small.
    records = training(updates=12, train__kl=9.0)
    records += [record | {"update": record["update"] + 12} for record in training(updates=12)]
    (alarm,) = alarm_history(records)
    assert (alarm.begin, alarm.end) == (10, 18)


def test_the_page_remembers_an_alarm_that_ended():
    records = training(updates=12, train__kl=9.0)
    records += [record | {"update": record["update"] + 12} for record in training(updates=12)]
    (alarm,) = training_content(records)["alarms"]
    assert (alarm["name"], alarm["begin"], alarm["end"]) == ("updates too large", 10, 18)


def test_a_watch_says_an_alarm_once_and_marks_the_records_that_begin_and_end_it():
    watch, begun, marks = AlarmWatch(), [], []
    records = training(updates=12, train__kl=9.0)
    records += [record | {"update": record["update"] + 12} for record in training(updates=12)]
    for record in records:
        (marked,), new = watch.follow([record])
        begun += new
        marks += [(marked["update"], value) for key, value in marked.items() if key == "alarm/updates_too_large"]
    assert [alarm.name for alarm in begun] == ["updates too large"] and marks == [(10, 1), (18, 0)]


def test_a_watch_of_a_resumed_training_knows_the_records_before_it_and_not_those_it_repeats():
    records = training(updates=12, train__kl=9.0)
    watch = AlarmWatch(records)
    late = [record for record in records if record["update"] > 9]
    begun = [alarm for record in late for alarm in watch.follow([record])[1]]
    assert [(alarm.name, alarm.begin) for alarm in begun] == [("updates too large", 10)]
