"""``python -m jtf.selftest``: train in markets whose optimum is known and print the normalised score reached.

The checks and their bounds are those of `jtf.known_optimum.checks`.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from jtf.compile_cache import use_compile_cache
from jtf.errors import UserError, run_command
from jtf.flags import parse_flags
from jtf.known_optimum.checks import FULL, SHORT, CheckResult, LearningCheck, run_check
from jtf.results.run_directory import json_ready


@dataclass(frozen=True)
class SelftestConfig:
    """Command line of the selftest."""

    json: bool = False
    """Print the results as JSON instead of a table."""
    full: bool = False
    """All checks over five seeds instead of the short ones over one or three."""
    markets: tuple[str, ...] = ()
    """Run only the checks in these markets; all where none is named."""
    compile_cache: bool = True
    """Keep compiled programs in the user's cache directory, so that the next start is quicker."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 1 where a check was failed."""
    return run_command(lambda: run(parse_flags(SelftestConfig, argv, "jtf selftest", description=__doc__)))


def run(config: SelftestConfig) -> int:
    """Run the checks, print the results, return 1 if any was failed."""
    chosen = in_markets(FULL if config.full else SHORT, config.markets)
    if config.compile_cache:
        use_compile_cache()
    results = []
    if not config.json:
        print(f"{'market':13} {'cost':>5} {'layout':8} {'measure':9} {'value':>7} {'bound':>7} {'seconds':>8}")
    for check in chosen:
        result = run_check(check, range(5 if config.full else check.short_seeds))
        results.append(result)
        if not config.json:
            print(result_line(result), flush=True)
    if config.json:
        print(json.dumps(json_ready(results), indent=1))
    return 0 if all(result.passed for result in results) else 1


def in_markets(checks: Sequence[LearningCheck], markets: Sequence[str]) -> Sequence[LearningCheck]:
    """Return the checks in `markets`, all where none is named, or raise `UserError` where a market has no check."""
    known = list(dict.fromkeys(check.market for check in checks))
    if unknown := [market for market in markets if market not in known]:
        raise UserError(f"--markets {' '.join(unknown)}: no check has this name; the markets are {', '.join(known)}.")
    return [check for check in checks if not markets or check.market in markets]


def result_line(result: CheckResult) -> str:
    """Return a result as one line of the table."""
    sign = ">=" if result.measure in ("score", "ratio") else "<="
    verdict = "passed" if result.passed else "FAILED"
    return (
        f"{result.market:13} {1e4 * result.cost:2.0f} bp {result.layout:8} {result.measure:9} "
        f"{result.value:7.3f} {sign}{result.bound:5.2f} "
        f"{result.seconds:8.1f}  {verdict}"
    )


if __name__ == "__main__":
    sys.exit(main())
