"""Training steps a second of this project's PPO, a PureJaxRL-style one and Stable-Baselines3's, side by side.

All train on the same market, with the same 5 800-wide observation, the same trunk with two heads and the same epochs;
each sweeps its own sizes, and all run once more with equal samples an iteration. ``jtf`` is the row engine;
``purejaxrl`` is `benchmarks.purejaxrl` on the gymnax adapter; ``sb3`` runs on the Gymnasium adapter, its trunk shared
through a features extractor instead of its usual two networks, which would double its work. Peers need the extra
``bench``. Compile time is reported apart and excluded; collecting and learning are both included.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from benchmarks.measure import Measurement, Row, add_timing_flags, make_parser, measure, report
from benchmarks.phases import resolve_for, start_iteration, synthetic_problem
from benchmarks.purejaxrl import MissingPeerError, PeerConfig, gymnax_env, make_peer
from jtf.environment import TradingData
from jtf.errors import run_command
from jtf_ppo.config import PPOConfig
from jtf_ppo.learner import make_learner

Runner = Callable[[TradingData, argparse.Namespace, int, int], Row]
"""``(data, args, num_envs, minibatch_size) -> row`` of one setting."""


def compiled_row(name: str, num_envs: int, minibatch: int, samples: int, measured: Measurement) -> Row:
    """Return the table's line of a trainer that is one compiled function."""
    return {
        "trainer": name,
        "envs": num_envs,
        "minibatch": minibatch,
        "samples": samples,
        "seconds": measured.run_seconds,
        "runs": measured.repeats,
        "steps/s": samples / measured.run_seconds,
        "compile s": measured.lower_seconds + measured.compile_seconds,
    }


def run_jtf(data: TradingData, args: argparse.Namespace, num_envs: int, minibatch: int) -> Row:
    """Measure one update of the row engine; `minibatch` 0 is the device's default."""
    config = PPOConfig(
        engine="rows",
        num_envs=num_envs,
        num_steps=args.num_steps,
        minibatch_size=minibatch or None,
        hidden_sizes=tuple(args.hidden_sizes),
        update_epochs=args.update_epochs,
    )
    it = start_iteration(data, resolve_for(data[0], config))
    update = make_learner(it.env, it.config).update
    measured = measure(
        update, it.state, it.hyper, data, carry=True, repeats=args.repeats, budget_seconds=args.budget_seconds
    )
    return compiled_row("jtf", num_envs, it.config.minibatch_size or 0, it.config.batch_size, measured)


def run_purejaxrl(data: TradingData, args: argparse.Namespace, num_envs: int, minibatch: int) -> Row:
    """Measure one iteration of the PureJaxRL-style trainer."""
    env = gymnax_env(data)
    samples = num_envs * args.num_steps
    config = PeerConfig(
        num_envs=num_envs,
        num_minibatches=max(1, samples // minibatch),
        num_steps=args.num_steps,
        update_epochs=args.update_epochs,
        hidden_sizes=tuple(args.hidden_sizes),
    )
    peer = make_peer(env, env.default_params, config)
    state = jax.jit(peer.start)(jax.random.key(0), env.default_params)
    measured = measure(
        peer.iterate, state, env.default_params, carry=True, repeats=args.repeats, budget_seconds=args.budget_seconds
    )
    return compiled_row("purejaxrl", num_envs, config.minibatch_size, samples, measured)


def run_sb3(data: TradingData, args: argparse.Namespace, num_envs: int, minibatch: int) -> Row:
    """Measure one rollout and its epochs of Stable-Baselines3's PPO; compile is the adapters' first step."""
    model, samples = _sb3_model(data, args, num_envs, minibatch)
    began = time.perf_counter()
    environments = model.get_env()
    environments.reset()
    environments.step([0] * num_envs)
    compile_seconds = time.perf_counter() - began
    seconds: list[float] = []
    while not seconds or (len(seconds) < args.repeats and sum(seconds) < args.budget_seconds):
        began = time.perf_counter()
        model.learn(samples, reset_num_timesteps=False)
        seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds)
    return {
        "trainer": "sb3",
        "envs": num_envs,
        "minibatch": min(minibatch, samples),
        "samples": samples,
        "seconds": median,
        "runs": len(seconds),
        "steps/s": samples / median,
        "compile s": compile_seconds,
    }


def _sb3_model(data: TradingData, args: argparse.Namespace, num_envs: int, minibatch: int) -> tuple[Any, int]:
    """Return a fresh Stable-Baselines3 PPO and the samples of one rollout."""
    try:
        import torch
        from stable_baselines3 import PPO
        from stable_baselines3.common.vec_env import DummyVecEnv

        from benchmarks.sb3_network import policy_kwargs
        from jtf_env.adapters.gymnasium import TradingEnv
    except ImportError as error:
        raise MissingPeerError(str(error.name)) from None

    if args.torch_threads:
        torch.set_num_threads(args.torch_threads)
    samples = num_envs * args.num_steps
    environments = DummyVecEnv([lambda seed=i: TradingEnv(*data, seed=seed) for i in range(num_envs)])
    model = PPO(
        "MlpPolicy",
        environments,
        n_steps=args.num_steps,
        batch_size=min(minibatch, samples),
        n_epochs=args.update_epochs,
        gamma=0.991,
        gae_lambda=0.95,
        ent_coef=0.015,
        policy_kwargs=policy_kwargs(args.hidden_sizes),
        seed=0,
        device="cuda" if jax.default_backend() == "gpu" else "cpu",
    )
    return model, samples


TRAINERS: dict[str, Runner] = {"jtf": run_jtf, "purejaxrl": run_purejaxrl, "sb3": run_sb3}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    gpu = jax.default_backend() == "gpu"
    parser = make_parser(__doc__)
    add_timing_flags(parser)
    parser.set_defaults(repeats=3)
    parser.add_argument("--trainers", nargs="+", choices=tuple(TRAINERS), default=list(TRAINERS))
    parser.add_argument("--num-bars", type=int, default=140_000 if gpu else 8_000)
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--num-steps", type=int, default=128)
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[512, 256, 128])
    parser.add_argument("--update-epochs", type=int, default=10)
    parser.add_argument(
        "--jtf-envs", type=int, nargs="+", default=[4096, 16_384, 65_536], help="sweep; minibatch by device"
    )
    parser.add_argument("--purejaxrl-envs", type=int, nargs="+", default=[256, 1024] if gpu else [16, 64], help="sweep")
    parser.add_argument("--sb3-envs", type=int, nargs="+", default=[8, 32] if gpu else [8], help="sweep")
    parser.add_argument("--torch-threads", type=int, default=0, help="0: torch's own choice")
    parser.add_argument("--minibatch-sizes", type=int, nargs="+", default=[256, 2048], help="sweep of both peers")
    parser.add_argument("--equal-envs", type=int, default=1024 if gpu else 64, help="environments of the equal run")
    parser.add_argument("--equal-trainers", nargs="*", choices=tuple(TRAINERS), default=list(TRAINERS))
    return parser.parse_args(argv)


def sweep(name: str, data: TradingData, args: argparse.Namespace) -> list[Row]:
    """Return the rows of one trainer's sweep over its environments and minibatch sizes."""
    minibatches = [0] if name == "jtf" else args.minibatch_sizes
    settings = [(envs, size) for envs in getattr(args, f"{name}_envs") for size in minibatches]
    return [_announced(name, data, args, *setting) for setting in settings]


def _announced(name: str, data: TradingData, args: argparse.Namespace, num_envs: int, minibatch: int) -> Row:
    print(f"{name}: {num_envs:,} x {args.num_steps} steps", flush=True)
    return TRAINERS[name](data, args, num_envs, minibatch)


def compare(rows: Sequence[Row], label: str) -> Row:
    """Return how many times as many steps a second jtf's best row does as every peer's best."""
    best = {name: max((r["steps/s"] for r in rows if r["trainer"] == name), default=None) for name in TRAINERS}
    ours = best.pop("jtf")
    return {f"jtf / {name}, {label}": ours / theirs for name, theirs in best.items() if ours and theirs}


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    data = synthetic_problem(args.num_bars, args.window)
    own = [row for name in args.trainers for row in sweep(name, data, args)]
    best_minibatch = {
        name: max((row for row in own if row["trainer"] == name), key=lambda row: row["steps/s"])["minibatch"]
        for name in args.trainers
    }
    names = [name for name in args.equal_trainers if name in args.trainers]
    equal = [_announced(name, data, args, args.equal_envs, best_minibatch[name]) for name in names]
    rows = [*({"run": "own best"} | row for row in own), *({"run": "equal samples"} | row for row in equal)]
    report("peers", rows, args, compare(own, "own best settings") | compare(equal, "equal samples an iteration"))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
