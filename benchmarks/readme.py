"""Write the outputs that README.md and docs/ show, from real runs of this code; no output is typed by hand.

Between ``<!-- output: COMMAND -->`` and ``<!-- /output -->`` a page shows what ``bash`` prints for COMMAND.
The commands of all pages run in order in one empty folder: a later one may use the run directory of an earlier one.
Only the pages named on the command line are written, all where none is named.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from jtf.errors import UserError, run_command
from jtf.results.run_directory import write_atomically

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- output: (?P<command>.+?) -->\n).*?(<!-- /output -->)", re.DOTALL)
PROGRESS = re.compile(r"\| update (\d+)/(\d+) \|")
PICTURE = ROOT / "docs" / "images" / "equity.png"
"""The equity of the first run that the pages start on CLSK."""
SHOWN = 2
"""Lines of progress shown from the start of a training; the last one is shown too."""


def with_outputs(page: str, run: Callable[[str], str]) -> str:
    """Return the text of a page with every output replaced by what `run` returns for its command."""

    def block(match: re.Match[str]) -> str:
        return f"{match[1]}```text\n{shorten(run(match['command']))}\n```\n{match[3]}"

    return BLOCK.sub(block, page)


def shorten(output: str) -> str:
    """Return an output without trailing blanks and without the middle of a training's progress."""
    lines, left_out = [], False
    for line in output.rstrip().splitlines():
        progress = PROGRESS.search(line)
        if progress and SHOWN < int(progress[1]) < int(progress[2]):
            lines += [] if left_out else ["..."]
            left_out = True
        else:
            lines.append(line.rstrip())
    return "\n".join(lines)


def run_in(folder: Path, command: str) -> str:
    """Return what `command` prints in `folder`, errors included; raise `UserError` where it fails."""
    print(f"$ {command}", flush=True)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "100",
    }
    shell = ["bash", "-euo", "pipefail", "-c", command]
    done = subprocess.run(
        shell, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        raise UserError(f"{command!r} ended with exit code {done.returncode}: {done.stdout[-500:]}")
    return done.stdout


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    parser.add_argument("pages", type=Path, nargs="*", default=default)
    pages = parser.parse_args(argv).pages
    with tempfile.TemporaryDirectory() as folder:
        written = {
            page: with_outputs(page.read_text(), lambda command: run_in(Path(folder), command)) for page in pages
        }
        pictures = sorted(Path(folder).glob("runs/CLSK/*/equity.png"))
        if pictures:
            write_atomically(PICTURE, pictures[0].read_bytes())
    for page, text in written.items():
        write_atomically(page, text)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
