"""``python -m benchmarks``: list the benchmarks, each by the first line of its own description."""

import importlib
import sys

BENCHMARKS = (
    "steps_per_second",
    "roofline",
    "time_to_quality",
    "peers",
    "peer_search",
    "joint_model",
    "architectures",
    "regularisation",
    "defaults",
    "first_layer",
    "compiled_for",
    "market_build",
    "inference",
    "members",
    "metrics",
    "report",
    "walkforward",
    "verdict_proof",
)


def main() -> int:
    print("python -m benchmarks.<name> [--help]\n")
    for name in BENCHMARKS:
        description = importlib.import_module(f"benchmarks.{name}").__doc__ or ""
        print(f"  {name:<17} {description.splitlines()[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
