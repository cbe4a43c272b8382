"""The NumPy policy: equal to the learner's network, checked at load, free of JAX."""

import json
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jtf.data import load_bars
from jtf.environment import reset_batch, row_table, step_batch
from jtf.errors import UserError
from jtf.models.policy import Policy, leaves, params_sha256, row_outputs
from jtf.models.policy_file import FILE_NAME, content_sha256, load_policy, save_policy
from jtf_env.layouts import get_layout
from jtf_env.mirror.account import Observation as AccountObservation
from jtf_env.params import make_params
from jtf_env.scaler import Scaler
from jtf_ppo.config import PPOConfig
from jtf_ppo.members import to_numpy
from jtf_ppo.networks import make_network
from jtf_ppo.types import Environment, Observation, RowTable

WINDOW, FEATURES, CONTEXT, WIDTH = 5, 51, 7, 6


def random_params(seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)

    def array(*shape: int) -> np.ndarray:
        return rng.normal(0.0, 0.3, shape).astype(np.float32)

    return {
        "first": {
            "kernel": array(WINDOW, FEATURES, WIDTH),
            "context_kernel": array(CONTEXT, WIDTH),
            "bias": array(WIDTH),
        },
        "hidden_0": {"kernel": array(WIDTH, 4), "bias": array(4)},
        "policy": {"kernel": array(4, 8), "bias": array(8)},
        "value": {"kernel": array(4, 1), "bias": array(1)},
    }  # fmt: skip


def random_policy(*seeds: int) -> Policy:
    seeds = seeds or (0,)
    return Policy(
        members=tuple(map(random_params, seeds)),
        seeds=seeds,
        scaler=Scaler(mean=np.linspace(-1, 1, 58), std=np.linspace(1, 2, 58)),
        symbol="AAAUSDT",
        layout=get_layout("v5.6.0"),
        window=WINDOW,
        env_params=make_params("crypto", stop_loss=0.05),
        bars_per_year=35_040.0,
    )


def test_the_numpy_forward_pass_is_the_learners_network():
    rng = np.random.default_rng(3)
    features, context = rng.normal(size=(60, FEATURES)), rng.normal(size=(60, CONTEXT))
    table = RowTable(jnp.asarray(features, jnp.float32), jnp.asarray(context, jnp.float32), jnp.ones(60, bool))
    environment = Environment(
        8, reset_batch, step_batch, 290, row_table, WINDOW, WINDOW - 1, num_features=FEATURES, num_context=CONTEXT
    )
    graph, state = make_network(environment, PPOConfig(hidden_sizes=(16, 12), precision="float32"), jax.random.key(0))
    rows = jnp.arange(WINDOW - 1, 60)
    theirs = nnx.merge(graph, state)(Observation(rows, jnp.zeros((len(rows), 0))), table)
    for ours, other in zip(row_outputs(to_numpy(state), features, context, WINDOW - 1), theirs, strict=True):
        found = ours[WINDOW - 1 :]
        np.testing.assert_allclose(found, other, rtol=1e-5, atol=1e-5 * np.abs(found).max())


def test_an_ensemble_decides_by_the_mean_of_its_members_probabilities(bars_folder):
    market = random_policy().market(load_bars("AAAUSDT", bars_folder))
    together, alone = random_policy(0, 1, 2), [random_policy(seed) for seed in range(3)]
    mean = np.mean([policy.probabilities(market) for policy in alone], axis=0)
    np.testing.assert_allclose(together.probabilities(market), mean, rtol=1e-12)
    np.testing.assert_array_equal(together.actions(market), mean.argmax(axis=1))
    np.testing.assert_array_equal(together.member(1).probabilities(market), alone[1].probabilities(market))


def test_decisions_bar_by_bar_are_those_of_all_rows_at_once(bars_folder):
    policy = random_policy(0, 1)
    market = policy.market(load_bars("AAAUSDT", bars_folder))
    at_once, decide = policy.actions(market), policy.decider(market)
    for row in range(market.first_bar, market.num_bars):
        seen = AccountObservation(row, np.zeros(0))
        assert decide(seen) == at_once[row] == policy.probabilities_at(market, seen).argmax()


def test_chunks_give_the_same_rows_as_one_window_at_a_time():
    params = random_params()
    rng = np.random.default_rng(1)
    features, context = rng.normal(size=(1_100, FEATURES)), rng.normal(size=(1_100, CONTEXT))
    outputs = row_outputs(params, features, context, WINDOW - 1).logits
    for row in (WINDOW - 1, 1_023, 1_024, 1_030, 1_099):
        window = features[row - WINDOW + 1 : row + 1].ravel()
        first = window @ params["first"]["kernel"].reshape(-1, WIDTH).astype(float)
        first += WINDOW * context[row] @ params["first"]["context_kernel"] + params["first"]["bias"]
        hidden = np.maximum(np.maximum(first, 0) @ params["hidden_0"]["kernel"] + params["hidden_0"]["bias"], 0)
        expected = hidden @ params["policy"]["kernel"] + params["policy"]["bias"]
        np.testing.assert_allclose(outputs[row], expected, rtol=1e-10, atol=1e-12)


def test_rows_before_the_first_bar_have_no_logits():
    features, context = np.ones((20, FEATURES)), np.ones((20, CONTEXT))
    outputs = row_outputs(random_params(), features, context, 9).logits
    assert not outputs[:9].any() and outputs[9:].all()


@pytest.mark.parametrize("seeds", [(0,), (3, 4, 5)])
def test_a_saved_policy_loads_equal(seeds, tmp_path):
    policy = replace(random_policy(*seeds), asset_class="crypto", extended_hours=True)
    save_policy(policy, tmp_path / FILE_NAME)
    loaded = load_policy(tmp_path / FILE_NAME)
    assert list(map(params_sha256, loaded.members)) == list(map(params_sha256, policy.members))
    assert loaded.sha256 == policy.sha256
    np.testing.assert_array_equal(loaded.scaler.mean, policy.scaler.mean)
    simple = {"members": (), "scaler": None}
    assert vars(replace(loaded, **simple)) == vars(replace(policy, **simple))


def test_saving_leaves_no_temporary_file(tmp_path):
    save_policy(random_policy(), tmp_path / FILE_NAME)
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_truncated_file_is_refused_by_name(tmp_path):
    path = tmp_path / FILE_NAME
    save_policy(random_policy(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=FILE_NAME):
        load_policy(path)


def test_a_changed_parameter_is_refused(tmp_path):
    path = tmp_path / FILE_NAME
    save_policy(random_policy(), path)
    data = bytearray(path.read_bytes())
    data[-5000] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="corrupt"):
        load_policy(path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="no policy file"):
        load_policy(tmp_path / "nothing.safetensors")


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3)}, tmp_path / FILE_NAME)
    with pytest.raises(UserError, match="not a jtf policy"):
        load_policy(tmp_path / FILE_NAME)


@pytest.mark.parametrize(
    ("name", "told"), [("features_version", "features version 1"), ("env_version", "environment version 1")]
)
def test_a_policy_of_another_version_is_refused_naming_both(tmp_path, monkeypatch, name, told):
    monkeypatch.setattr(f"jtf.models.policy_file.{name.upper()}", 1)
    save_policy(random_policy(), tmp_path / FILE_NAME)
    monkeypatch.undo()
    with pytest.raises(UserError, match=rf"{told}.* this jtf has 2 and 2; use the version of jtf that trained it"):
        load_policy(tmp_path / FILE_NAME)


def test_a_policy_file_that_names_no_version_is_of_version_1(tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    path = tmp_path / FILE_NAME
    save_policy(random_policy(), path)
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["jtf"])
    del header["features_version"], header["env_version"]
    save_file(load_file(path), path, metadata={"jtf": json.dumps(header)})
    with pytest.raises(UserError, match="features version 1 and environment version 1, this jtf has 2 and 2"):
        load_policy(path)


def test_another_layout_hash_is_refused(tmp_path, monkeypatch):
    save_policy(random_policy(), tmp_path / FILE_NAME)
    monkeypatch.setattr("jtf_env.layouts.Layout.hash", lambda self, window: "0" * 16)
    with pytest.raises(UserError, match="hash"):
        load_policy(tmp_path / FILE_NAME)


def test_the_parameter_hash_ignores_the_order_of_the_dicts():
    params = random_params()
    assert params_sha256(dict(reversed(params.items()))) == params_sha256(params)


@pytest.mark.parametrize("change", ["value", "dtype", "shape", "name"])
def test_the_parameter_hash_sees_every_change(change):
    params = random_params()
    before = params_sha256(params)
    bias = params["first"]["bias"]
    if change == "name":
        params["first"]["offset"] = params["first"].pop("bias")
    else:
        changed = {"value": bias + 1e-6, "dtype": bias.view(np.int32), "shape": bias[None, :]}
        params["first"]["bias"] = changed[change]
    assert params_sha256(params) != before


def test_leaves_are_named_by_their_path():
    assert [name for name, _ in leaves({"a": {"b": 1.0}, "c": 2.0})] == ["a/b", "c"]


def test_a_policy_acts_on_bars_where_jax_is_absent(trained_run, bars_folder):
    """Everything a live machine needs, in a process in which the learner's libraries cannot be imported."""
    code = f"""
import json, sys
for name in ("jax", "jaxlib", "flax", "optax", "chex", "orbax", "tensorboardX"):
    sys.modules[name] = None
from pathlib import Path
from jtf.data import load_bars
from jtf.models.policy_file import load_policy
policy = load_policy(Path({str(trained_run / "best" / FILE_NAME)!r}))
bars = load_bars("AAAUSDT", {str(bars_folder)!r})
print(json.dumps(policy.actions(policy.market(bars)).tolist()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    policy = load_policy(trained_run / "best" / FILE_NAME)
    here = policy.actions(policy.market(load_bars("AAAUSDT", bars_folder)))
    assert json.loads(done.stdout) == here.tolist()


@pytest.mark.parametrize("part", ["scaler", "header"])
def test_a_policy_whose_scaler_or_costs_were_changed_is_refused(part, tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    path = tmp_path / FILE_NAME
    save_policy(random_policy(), path)
    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata())
    tensors = load_file(path)
    if part == "scaler":
        tensors["scaler/mean"][3] += 5
    else:
        metadata["jtf"] = metadata["jtf"].replace('"slippage": 0.0002', '"slippage": 0.0')
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(UserError, match="corrupt"):
        load_policy(path)


def rewrite(path, header=lambda table: None, tensors=lambda tensors: None, text=None) -> None:
    """Change a policy file so that all its hashes fit again; `text` stands for the whole header."""
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    with safe_open(path, framework="numpy") as file:
        table = json.loads(file.metadata()["jtf"])
    content = load_file(path)
    tensors(content)
    members = {name.removeprefix("members/0/"): content[name] for name in content if name.startswith("members/0/")}
    table["params_sha256"] = [params_sha256(members)]
    header(table)
    text = json.dumps(table) if text is None else text
    save_file(content, path, metadata={"jtf": text, "sha256": content_sha256(text, content)})


def poke(name: str, value: float):
    def edit(tensors):
        tensors[name].flat[1] = value

    return edit


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tensors": poke("members/0/policy/bias", np.nan)}, "policy/bias holds NaN"),
        ({"tensors": poke("scaler/mean", np.inf)}, "scaler/mean holds NaN or infinity"),
        ({"tensors": poke("scaler/std", 0.0)}, "deviation that is not positive"),
        ({"tensors": lambda tensors: tensors.update({"members/0/policy/bias": np.zeros(3, "f4")})}, "policy/bias"),
        ({"tensors": lambda tensors: tensors.update({"members/0/value/bias": np.zeros(1, np.int32)})}, "dtype"),
        ({"tensors": lambda tensors: tensors.update({"members/1/value/bias": np.zeros(1)})}, "tensors of no member"),
        ({"tensors": lambda tensors: tensors.pop("scaler/mean")}, "lacks 'scaler/mean'"),
        ({"header": lambda table: table["env_params"].update(fee=-5)}, "fee=-5 is outside"),
        ({"header": lambda table: table["env_params"].update(colour=1)}, "colour"),
        ({"header": lambda table: table.update(colour="red")}, "unknown field 'colour'"),
        ({"header": lambda table: table.update(format="jtf-policy/3")}, "format jtf-policy/3 and this jtf reads"),
        ({"header": lambda table: table.update(asset_class="tulips")}, "asset class"),
        ({"header": lambda table: table.update(bar_minutes=7)}, "bars of 7 minutes"),
        ({"header": lambda table: table.update(bars_per_year=-1.0)}, "bars in a year"),
        ({"header": lambda table: table.pop("seeds")}, "lacks 'seeds'"),
        ({"text": "{"}, "no policy of this jtf"),
        ({"text": "[]"}, "not a jtf policy"),
        ({"text": "[" * 100_000}, "no policy of this jtf"),
    ],
)  # fmt: skip
def test_a_policy_file_with_such_a_change_is_refused_in_one_sentence(changes, told, tmp_path):
    path = tmp_path / FILE_NAME
    save_policy(random_policy(), path)
    rewrite(path, **changes)
    with pytest.raises(UserError, match=told) as error:
        load_policy(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
