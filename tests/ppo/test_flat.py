"""Parameters as one array take the same steps as parameters as a tree."""

import jax
import jax.numpy as jnp
import pytest

from jtf_ppo.flat import arrange
from jtf_ppo.hyper import make_hyper
from jtf_ppo.learner import make_learner
from jtf_ppo.optimiser import apply_gradient
from tests.ppo.toy import (
    assert_trees_close,
    assert_trees_equal,
    fresh_state,
    make_rows,
    row_environment,
    tiny_config,
)

ENV, TABLE = row_environment(), make_rows()


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("engine", ["rows", "samples"])
def test_an_update_ends_at_the_same_parameters_and_moments(engine: str, weight_decay: float) -> None:
    ends = []
    for flat in (False, True):
        config = tiny_config(ENV, engine=engine, weight_decay=weight_decay, flat_parameters=flat)
        state, hyper = fresh_state(ENV, TABLE, config), make_hyper(config)
        after, metrics = jax.jit(make_learner(ENV, config).update)(state, hyper, TABLE)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        ends.append((after.params, after.opt_state, metrics))
    assert_trees_close(ends[1], ends[0], 1e-4)


@pytest.mark.parametrize("flat", [False, True])
def test_an_arrangement_gives_back_what_it_was_given(flat: bool) -> None:
    config = tiny_config(ENV, engine="rows", weight_decay=0.3, flat_parameters=flat)
    state = fresh_state(ENV, TABLE, config)
    held = arrange(config, make_hyper(config), state.params, state.opt_state)
    assert_trees_equal(held.unpack(held.params), state.params)
    assert_trees_equal(held.unpack(held.pack(state.params)), state.params)
    assert_trees_equal(held.unpack_state(held.opt_state), state.opt_state)


def test_a_flat_step_skips_a_gradient_that_is_not_finite() -> None:
    config = tiny_config(ENV, engine="rows", flat_parameters=True)
    state = fresh_state(ENV, TABLE, config)
    held = arrange(config, make_hyper(config), state.params, state.opt_state)
    gradient = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), state.params)
    loss, rate = jnp.zeros(()), jnp.asarray(1e-3)
    params, _, _, skipped = apply_gradient(
        held.optimiser, held.params, held.opt_state, gradient, loss, rate, 0.5, ENV.window, held.pack
    )
    assert bool(skipped)
    assert_trees_equal(params, held.params)
