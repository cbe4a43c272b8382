"""The console script ``jtf``: the same verbs as the modules, ``jtf train`` is ``python -m jtf.train``."""

import sys
from importlib import import_module

VERBS = {
    "train": "train one policy for one symbol; validate, backtest and save it",
    "backtest": "replay a trained policy on the NumPy mirror over any span of bars",
    "selftest": "train in markets whose best policy is known and print the share of it reached",
}


def usage() -> str:
    """Return the list of verbs."""
    lines = [f"  {verb:<10}{help_text}" for verb, help_text in VERBS.items()]
    return "\n".join(["usage: jtf VERB [OPTIONS]", "", *lines, "", "jtf VERB --help lists the options of a verb."])


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    args = sys.argv[1:] if argv is None else argv
    if not args or args[0] in ("-h", "--help"):
        print(usage())
        return 0
    verb, *rest = args
    if verb not in VERBS:
        print(f"error: {verb!r} is not a verb of jtf; known are {', '.join(VERBS)}.", file=sys.stderr)
        return 2
    return import_module(f"jtf.{verb}").main(rest)


if __name__ == "__main__":
    sys.exit(main())
