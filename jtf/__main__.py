"""The console script ``jtf``: the same verbs as the modules, ``jtf train`` is ``python -m jtf.train``."""

import sys
from importlib import import_module, metadata

from jtf.errors import EXIT_USER_ERROR, run_command

VERBS = {
    "train": "train one policy for one symbol; validate, backtest and save it",
    "backtest": "replay a trained policy on the NumPy mirror over any span of bars",
    "walkforward": "train fold after fold and judge the bars that none had seen",
    "evaluate": "walk forward through several symbols and judge them together",
    "compare": "tell whether two runs or walk-forwards differ beyond chance",
    "runs": "list, show and remove what is on disk",
    "export": "write the policy of a run as one file that anyone can load",
    "import": "turn a dense network from elsewhere into such a file",
    "report": "draw a finished run as one HTML page, its JSON twin and pictures",
    "selftest": "train in markets whose best policy is known and print the share of it reached",
}


def usage() -> str:
    """Return the list of verbs."""
    lines = [f"  {verb:<12}{help_text}" for verb, help_text in VERBS.items()]
    about = ["jtf VERB --help lists the options of a verb.", "jtf --version prints the version."]
    return "\n".join(["usage: jtf VERB [OPTIONS]", "", *lines, "", *about])


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    args = sys.argv[1:] if argv is None else argv
    if not args or args[0] in ("-h", "--help"):
        return run_command(lambda: print(usage()))
    if args[0] == "--version":
        return run_command(lambda: print(f"jtf {metadata.version('jtf')}"))
    verb, *rest = args
    if verb not in VERBS:
        print(f"error: {verb!r} is not a verb of jtf; known are {', '.join(VERBS)}.", file=sys.stderr)
        return EXIT_USER_ERROR
    return import_module(f"jtf.{verb}").main(rest)


if __name__ == "__main__":
    sys.exit(main())
