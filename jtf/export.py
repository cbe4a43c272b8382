"""``python -m jtf.export``: the best policy of a run as one file: a bundle, a StableHLO program or an ONNX graph."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jtf.backtest import Run, find_bars, find_policy
from jtf.data import bars_sha256
from jtf.errors import UserError, run_command
from jtf.flags import parse_flags
from jtf.models.bundle import load_bundle, write_bundle
from jtf.models.golden import TOLERANCE, golden_difference, make_golden
from jtf.models.policy import Policy
from jtf.results.run_directory import how_to_finish, read_summary
from jtf_env.bars import Bars

Format = Literal["bundle", "stablehlo", "onnx"]
RECORDED = ("start", "end", "bars", "sha256")
"""What a bundle records of the training bars beside their source."""


@dataclass(frozen=True)
class ExportConfig:
    """Export the best policy of a run as one file that anyone can load."""

    run: Path
    """Run directory, e.g. runs/CLSK/20260101T120000-ab12cd."""
    out: Path
    """File to write, e.g. clsk.zip; one that is there is replaced."""
    format: Format = "bundle"
    """bundle: weights, scaler and manifest for jtf.Policy.load. stablehlo: a program for jax.export.deserialize. onnx:
    a graph for ONNX Runtime. The last two take windows in natural units and are compared with the policy first."""


def export(run: str | Path, out: str | Path, format: Format = "bundle") -> Path:
    """Write the best policy of a finished run to `out`, as ``python -m jtf.export`` does, and return its path.

    The run's bars must be where they were. Raises `UserError` where they are not, or where the file would decide
    otherwise than the policy.
    """
    out = Path(out)
    policy, found = find_policy(run)
    if found is None:
        raise UserError(f"{run} is no run directory; name the directory that jtf.train wrote.")
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"--out {out} is not a file in an existing folder; name one, e.g. --out clsk.zip.")
    refuse_unfinished(found)
    bars = run_bars(policy, found)
    if format == "bundle":
        export_bundle(policy, found, bars, out)
    else:
        from jtf.models.formats import export_program

        export_program(policy, bars, out, format)
    return out


def refuse_unfinished(run: Run) -> None:
    """Raise `UserError` for a run whose policy may still change."""
    status = read_summary(run.directory)["status"]
    if status != "finished":
        raise UserError(f"{run.directory} has not finished ({status}); {how_to_finish(run.directory)}.")


def run_bars(policy: Policy, run: Run) -> Bars:
    """Return the bars a run was trained on; raise `UserError` where they have changed."""
    bars = find_bars(policy, run, None, cut=True)
    if bars_sha256(bars) != run.settings["data"]["sha256"]:
        raise UserError(
            f"the bars of {bars.source} are not those {run.directory} was trained on, so its decisions cannot be "
            "recorded; put the run's bars back."
        )
    return bars


def export_bundle(policy: Policy, run: Run, bars: Bars, out: Path) -> None:
    """Write the bundle of a run's policy; its golden decisions are made by the file itself, read back."""
    about = describe_run(run)
    aside = out.with_name(f".{out.name}.source")
    try:
        write_bundle(aside, policy, about)
        policy_read = load_bundle(aside).policy
    finally:
        aside.unlink(missing_ok=True)
    golden = make_golden(policy_read, bars)
    difference = golden_difference(policy, golden)
    if difference > TOLERANCE:
        raise UserError(
            f"the bundle would decide otherwise than {run.directory}: probabilities differ by {difference:.1e}; report "
            "this as a bug."
        )
    write_bundle(out, policy, about, golden)


def describe_run(run: Run) -> dict[str, Any]:
    """Return the fields of a manifest that come from the run."""
    settings, summary = run.settings, read_summary(run.directory)
    data = settings["data"]
    return {
        "feed": {"kind": data["kind"], "source": Path(data["source"]).name},
        "data": {name: data[name] for name in RECORDED},
        "training": settings["config"],
        "versions": settings["versions"],
        "git_revision": settings.get("git_revision"),
        "metrics": summary["metrics"],
        "verdict": summary.get("verdict"),
        "run": run.directory.name,
        "parent": summary.get("parent"),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(lambda: run_from_args(argv))


def run_from_args(argv: Sequence[str] | None) -> None:
    """Parse, export and say where the file lies."""
    config = parse_flags(ExportConfig, argv, "jtf export")
    out = export(config.run, config.out, config.format)
    print(f"wrote {out} ({out.stat().st_size:,} bytes)")


if __name__ == "__main__":
    sys.exit(main())
