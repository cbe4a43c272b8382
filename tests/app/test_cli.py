"""The console script, exit codes, and what identifies a run."""

import subprocess
import sys
from importlib import metadata

import pytest

from jtf.__main__ import VERBS, main
from jtf.errors import UserError, describe_os_error, run_command, user_errors
from jtf.results.run_directory import (
    create_run,
    git_revision,
    last_checkpoint,
    library_versions,
)
from jtf_env.errors import BarsError
from jtf_ppo.errors import CheckpointError

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
def test_help_lists_every_verb(args, capsys):
    assert main(args) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in VERBS)


def test_the_version_is_that_of_the_installed_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"jtf {metadata.version('jtf')}\n"


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["backtest", "--help"]])
def test_a_reader_who_goes_away_ends_a_command_silently(args):
    command = [sys.executable, "-m", "jtf", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_an_unknown_verb_is_refused_naming_the_known_ones(capsys):
    assert main(["dance"]) == 2
    assert "train, backtest" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main([verb, "--help"])
    assert exit_info.value.code == 0 and f"jtf {verb}" in capsys.readouterr().out


def test_a_users_mistake_is_one_sentence_and_code_2():
    done = subprocess.run([sys.executable, "-m", "jtf", "backtest", "--run", "nowhere"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: nowhere is not a run directory: it has no config.json.\n"


@pytest.mark.parametrize("error", [UserError("no."), BarsError("no."), CheckpointError("no."), OSError(28, "full")])
def test_every_kind_of_user_error_is_caught(error, capsys):
    def fail():
        raise error

    assert run_command(fail) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_bug_is_not_dressed_up_as_a_users_mistake():
    def fail():
        raise KeyError("bug")

    with pytest.raises(KeyError):
        run_command(fail)


def test_the_learner_is_not_loaded_to_know_its_errors(monkeypatch):
    monkeypatch.delitem(sys.modules, "jtf_ppo.errors")
    assert CheckpointError not in user_errors()


@pytest.mark.parametrize(
    ("number", "phrase"), [(28, "disk is full"), (30, "is denied"), (13, "is denied"), (5, "refused")]
)
def test_file_system_errors_name_the_file(number, phrase):
    sentence = describe_os_error(OSError(number, "why", "/x/y"))
    assert phrase in sentence and "/x/y" in sentence


def test_run_directories_are_never_shared(tmp_path):
    one, other = create_run(tmp_path, "BTC/USD"), create_run(tmp_path, "BTC/USD")
    assert one != other and one.parent == tmp_path / "BTCUSD"


def test_the_newest_checkpoint_is_the_largest_number(tmp_path):
    for name in ("9", "10", "tmp.11"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoints" / "10"


def test_a_run_without_checkpoints_has_no_newest(tmp_path):
    assert last_checkpoint(tmp_path) is None


def test_versions_of_what_decides_the_numbers_are_recorded():
    assert {"jax", "flax", "optax", "numpy"} <= set(library_versions())


def test_the_revision_is_a_commit_or_nothing():
    revision = git_revision()
    assert revision is None or len(revision) == 40
