"""Layouts: exact counts, exact detection, no collisions."""

import pytest

from jtf_env import layouts
from jtf_env.errors import LayoutError
from jtf_env.features import BAR_GROUPS
from jtf_env.layouts import GROUPS, LAYOUTS, Group, get_layout, layout_from_obs_dim
from jtf_env.mirror.features import BUILDERS

pytestmark = pytest.mark.quick

COUNTS = {"v2.3.0": 53, "v2.4.0": 56, "v2.7.0": 59, "v5.3.0": 65, "v5.5.0": 51, "v5.6.0": 58}


def test_every_layout_has_exactly_its_count_of_columns():
    assert {layout.name: layout.count for layout in LAYOUTS.values()} == COUNTS


def test_the_observation_size_at_window_100_is_a_hundred_times_the_count():
    assert {layout.name: layout.obs_dim() for layout in LAYOUTS.values()} == {
        name: 100 * count for name, count in COUNTS.items()
    }


def test_no_two_layouts_share_a_count():
    assert len({layout.count for layout in LAYOUTS.values()}) == len(LAYOUTS)


def test_no_layout_names_a_column_twice():
    for layout in LAYOUTS.values():
        assert len(set(layout.columns)) == layout.count, layout.name


@pytest.mark.parametrize("name", COUNTS)
def test_a_layout_is_found_by_its_exact_observation_size(name):
    assert layout_from_obs_dim(COUNTS[name] * 100).name == name
    assert layout_from_obs_dim(COUNTS[name] * 20, window=20).name == name


@pytest.mark.parametrize("obs_dim", [5_799, 5_801, 5_850, 0])
def test_any_other_observation_size_is_refused_naming_the_known_ones(obs_dim):
    with pytest.raises(LayoutError, match=rf"obs_dim {obs_dim} .*5100 \(v5\.5\.0\), 5800 \(v5\.6\.0\)"):
        layout_from_obs_dim(obs_dim)


def test_an_unknown_layout_is_refused_naming_the_known_ones():
    with pytest.raises(LayoutError, match=r"'v9' is unknown; known layouts are .*v5\.6\.0"):
        get_layout("v9")


def test_every_layout_named_in_an_error_can_be_had():
    with pytest.raises(LayoutError) as error:
        get_layout("v9")
    named = str(error.value).split("known layouts are ")[1].rstrip(".").split(", ")
    assert [get_layout(name).name for name in named] == list(COUNTS)


def test_every_bar_group_has_a_builder_on_both_sides():
    names = {name for name, group in GROUPS.items() if group.source == "bar"}
    assert names == set(BAR_GROUPS) == set(BUILDERS)


def test_the_65_columns_put_the_account_before_the_ages_of_the_regimes():
    layout = get_layout("v5.3.0")
    built = layout.bar_columns + layout.context_columns + layout.state_columns
    assert (
        layout.columns[-9:] == GROUPS["account3"].columns + GROUPS["position3"].columns + GROUPS["regime_bars3"].columns
    )
    assert tuple(built[place] for place in layout.observation_order) == layout.columns
    assert layout.observation_order == (*range(56), *range(59, 65), *range(56, 59))


def test_v560_is_v550_followed_by_the_hourly_context():
    old, new = get_layout("v5.5.0"), get_layout("v5.6.0")
    assert new.columns == old.columns + GROUPS["hourly_context7"].columns
    assert new.context_columns == GROUPS["hourly_context7"].columns


def test_the_first_decision_bar_has_a_full_window_of_warm_bars():
    layout = get_layout("v5.6.0")
    assert layout.warmup == 101
    assert layout.first_bar(100) - 100 + 1 == layout.warmup


def test_the_hash_changes_with_columns_window_and_hour_visibility():
    layout = get_layout("v5.6.0")
    others = (
        get_layout("v5.5.0").hash(),
        layout.hash(50),
        get_layout("v5.6.0", "at_close").hash(),
    )
    assert len({layout.hash(), *others}) == 4


@pytest.mark.parametrize("version", ["FEATURES_VERSION", "ENV_VERSION"])
def test_the_hash_changes_with_a_version(version, monkeypatch):
    before = get_layout("v5.6.0").hash()
    monkeypatch.setattr(layouts, version, getattr(layouts, version) + 1)
    assert get_layout("v5.6.0").hash() != before


def test_a_group_has_one_neutral_value_per_column():
    assert all(len(group.neutral) == len(group.columns) for group in GROUPS.values())
    with pytest.raises(ValueError, match="2 columns, 1 neutral"):
        Group("odd", ("a", "b"), neutral=(0.0,))
