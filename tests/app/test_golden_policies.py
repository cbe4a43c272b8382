"""Policies that were written once decide the same ever after, or are refused in one sentence."""

import json

import numpy as np
import pytest

from jtf.errors import UserError
from jtf.models import policy_file
from jtf.models.policy_file import load_policy
from jtf_env.layouts import LAYOUTS
from tests.golden_policies import DECISIONS, FOLDER, decisions_of, golden_bars, golden_path

pytestmark = pytest.mark.quick

STORED = json.loads(DECISIONS.read_text())


@pytest.fixture(scope="module")
def bars():
    return golden_bars()


def test_there_is_a_golden_policy_of_every_layout():
    assert list(STORED) == list(LAYOUTS)


@pytest.mark.parametrize("layout", STORED)
def test_a_golden_policy_decides_as_it_did_when_it_was_written(bars, layout):
    expected = STORED[layout]
    decided, _ = decisions_of(load_policy(golden_path(layout)), bars)
    assert decided["actions"] == expected["actions"]
    np.testing.assert_allclose(decided["probabilities"], expected["probabilities"], rtol=0, atol=1e-6)
    assert decided["equity"] == pytest.approx(expected["equity"], rel=1e-9)


@pytest.mark.parametrize("layout", [name for name, layout in LAYOUTS.items() if not layout.address_only])
def test_a_golden_policy_with_an_account_would_decide_otherwise_without_it(bars, layout):
    policy = load_policy(golden_path(layout))
    for member in policy.members:
        blind = member["first"]["context_kernel"]
        blind[-len(policy.layout.state_columns) :] = 0.0
    assert decisions_of(policy, bars)[0]["actions"] != STORED[layout]["actions"]


@pytest.mark.parametrize("layout", STORED)
def test_another_features_version_refuses_a_golden_policy_in_one_sentence(layout, monkeypatch):
    monkeypatch.setattr(policy_file, "FEATURES_VERSION", 3)
    with pytest.raises(UserError) as error:
        load_policy(golden_path(layout))
    assert_one_sentence(error, "features version 2 and environment version 2, this jtf has 3 and 2")


def test_a_file_of_features_version_1_is_refused_in_one_sentence():
    with pytest.raises(UserError) as error:
        load_policy(FOLDER / "features_version_1.safetensors")
    assert_one_sentence(error, "features version 1 and environment version 1, this jtf has 2 and 2")


def assert_one_sentence(error, part):
    message = str(error.value)
    assert part in message and "\n" not in message
    assert message.endswith("use the version of jtf that trained it or train again.")
