"""``jtf.runs``: what is on disk is listed, shown and removed, without JAX."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jtf import compare, runs
from jtf.report import command as report
from jtf.results.catalogue import find_entries
from jtf.results.run_directory import run_lock


@pytest.fixture
def out(trained_run, tmp_path):
    """A folder of one finished run."""
    folder = tmp_path / "out"
    shutil.copytree(trained_run, folder / "AAAUSDT" / trained_run.name)
    return folder


def test_a_finished_run_is_listed_with_its_verdict(out, capsys):
    assert runs.main(["list", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "finished" in text and "AAAUSDT" in text and any(word in text for word in ("DROP", "REVIEW"))


def test_runs_are_listed_newest_first(out):
    (first,) = (out / "AAAUSDT").iterdir()
    later = shutil.copytree(first, out / "AAAUSDT" / "later")
    (later / "note").write_text("newer")
    assert [entry.path.name for entry in find_entries(out)] == ["later", first.name]


def test_a_run_without_a_summary_is_unfinished_one_that_is_written_running_one_cut_off_damaged(out):
    (run,) = (out / "AAAUSDT").iterdir()
    with run_lock(run):
        assert find_entries(out)[0].summary["status"] == "running"
    (run / "summary.json").rename(run / "kept")
    assert find_entries(out)[0].summary["status"] == "unfinished"
    (run / "summary.json").write_text((run / "kept").read_text()[:100])
    assert find_entries(out)[0].summary["status"] == "damaged"


def test_a_run_is_shown_as_training_showed_it(out, capsys):
    (run,) = (out / "AAAUSDT").iterdir()
    assert runs.main(["show", str(run)]) == 0
    text = capsys.readouterr().out
    assert "total return" in text and "verdict" in text


@pytest.mark.parametrize("verb", [["runs", "show"], ["compare"]])
def test_a_run_that_has_no_results_yet_says_how_to_finish_it(verb, out, capsys):
    (run,) = (out / "AAAUSDT").iterdir()
    (run / "summary.json").unlink()
    command, *flags = verb
    assert {"runs": runs.main, "compare": compare.main}[command]([*flags, *[str(run)] * (1 if flags else 2)]) == 2
    assert capsys.readouterr().err == (
        f"error: {run} has no results yet; finish it with python -m jtf.train --resume {run}.\n"
    )


@pytest.mark.parametrize("missing", ["stitched", "luck"])
def test_an_experiment_of_another_version_is_one_sentence(missing, walked, tmp_path, capsys):
    path = shutil.copytree(walked, tmp_path / "walked")
    summary = json.loads((path / "summary.json").read_text())
    del summary[missing]
    (path / "summary.json").write_text(json.dumps(summary))
    assert runs.main(["show", str(path)]) == 2
    error = capsys.readouterr().err
    assert error == f"error: {path}/summary.json was written by another version of jtf; start its command again.\n"


@pytest.mark.parametrize("content", [None, b"PAR1 cut off"])
def test_an_experiment_without_its_curves_is_one_sentence(content, walked, tmp_path, capsys):
    path = Path(shutil.copytree(walked, tmp_path / "walked"))
    (path / "stitched.parquet").unlink()
    if content is not None:
        (path / "stitched.parquet").write_bytes(content)
    for command in (lambda: compare.main([str(path), str(walked)]), lambda: report.main([str(path)])):
        assert command() == 2
        assert capsys.readouterr().err == (
            f"error: {path}/stitched.parquet is missing or damaged; start the command of the experiment again.\n"
        )


def test_a_run_is_removed_only_when_told_so(out, capsys):
    (run,) = (out / "AAAUSDT").iterdir()
    assert runs.main(["rm", str(run)]) == 2
    assert "nobody to ask" in capsys.readouterr().err and run.exists()
    assert runs.main(["rm", str(run), "--yes"]) == 0
    assert not run.exists()


def test_a_run_that_is_written_is_not_removed(out, capsys):
    (run,) = (out / "AAAUSDT").iterdir()
    with run_lock(run):
        assert runs.main(["rm", str(run), "--yes"]) == 2
    assert "is being written" in capsys.readouterr().err and (run / "summary.json").exists()


def test_nothing_is_removed_where_one_of_several_is_no_run(out, tmp_path, capsys):
    (run,) = (out / "AAAUSDT").iterdir()
    assert runs.main(["rm", str(run), str(tmp_path), "--yes"]) == 2
    assert "is neither a run nor an experiment" in capsys.readouterr().err and run.exists()


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["list", "--out", "/nowhere"], "/nowhere"),
        (["show", "/nowhere"], "/nowhere"),
        (["rm"], "name the directories"),
        (["rename"], "'rename' is not a verb"),
    ],
)
def test_what_cannot_be_is_one_sentence(args, named, capsys):
    assert runs.main(args) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1


def test_listing_needs_no_jax(out):
    code = f"""
import sys
for name in ("jax", "jaxlib", "flax", "optax", "chex", "orbax", "tensorboardX"):
    sys.modules[name] = None
from jtf.__main__ import main
sys.exit(main(["runs", "list", "--out", {str(out)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
