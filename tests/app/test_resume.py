"""Stopping and going on: bit for bit, and never with another layout or other data."""

import json
import shutil
import signal

import pytest

from jtf import train
from jtf.results.run_directory import MetricsLog, last_checkpoint, read_summary, run_lock


@pytest.fixture(scope="module")
def stopped_run(tiny_args, tmp_path_factory):
    """A run interrupted by Ctrl-C during its second of four updates."""
    out = tmp_path_factory.mktemp("stopped")
    write = MetricsLog.write

    def interrupt(self, records):
        write(self, records)
        if records[0]["update"] == 2 and "train/kl" in records[0]:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MetricsLog, "write", interrupt)
        assert train.main([*tiny_args, "--out", str(out)]) == 130
    (run,) = (out / "AAAUSDT").iterdir()
    return run


@pytest.fixture
def copy_of_stopped(stopped_run, tmp_path):
    return shutil.copytree(stopped_run, tmp_path / "run")


def learning(run) -> list[dict]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if not name.startswith("perf/")} for line in lines]


def test_an_interrupted_run_names_its_last_checkpoint(stopped_run):
    summary = read_summary(stopped_run)
    assert summary["status"] == "interrupted" and summary["training"][0]["updates"] == 2
    assert summary["last_checkpoint"] == str(last_checkpoint(stopped_run)) == str(stopped_run / "checkpoints" / "2")


def test_signal_handlers_are_as_before_after_a_run():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # A shell ignores it for what runs behind.
    try:
        with train.StopRequest():
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_half_a_run_resumed_equals_the_whole_run(copy_of_stopped, trained_run):
    assert train.main(["--resume", str(copy_of_stopped)]) == 0
    resumed, whole = read_summary(copy_of_stopped), read_summary(trained_run)
    for name in ("members", "ensemble", "metrics", "verdict", "steps", "status"):
        assert resumed[name] == whole[name], name
    for name in ("last_params_sha256", "best_params_sha256", "updates", "best_update", "stopped"):
        assert resumed["training"][0][name] == whole["training"][0][name], name
    assert learning(copy_of_stopped) == learning(trained_run)


def test_records_after_the_last_checkpoint_are_written_once(copy_of_stopped, trained_run):
    with (copy_of_stopped / "metrics.jsonl").open("a") as file:
        file.write('{"seed": 0, "update": 3, "train/kl": 9.0}\n')
    assert train.main(["--resume", str(copy_of_stopped)]) == 0
    assert learning(copy_of_stopped) == learning(trained_run)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--layout", "v5.5.0"], "--layout"),
        (["--seed", "3"], "--seed"),
        (["--ppo.total-steps", "4096"], "--ppo.total-steps"),
        (["--env.fee", "0.1"], "--env.fee"),
    ],
)
def test_a_flag_that_contradicts_the_run_is_refused(stopped_run, flags, named, capsys):
    assert train.main(["--resume", str(stopped_run), *flags]) == 2
    assert f"{named} contradicts" in capsys.readouterr().err


def test_repeating_the_runs_own_flags_is_no_contradiction(copy_of_stopped, tiny_args):
    assert train.main([*tiny_args, "--resume", str(copy_of_stopped)]) == 0


def test_other_bars_are_refused(copy_of_stopped, bars_folder, tmp_path, capsys):
    shutil.copy(bars_folder / "BBBUSDT_15Min.parquet", tmp_path / "AAAUSDT_15Min.parquet")
    assert train.main(["--resume", str(copy_of_stopped), "--data", str(tmp_path)]) == 2
    assert "data" in capsys.readouterr().err
    assert read_summary(copy_of_stopped)["status"] == "interrupted"


def test_a_corrupt_checkpoint_is_named(copy_of_stopped, capsys):
    checkpoint = last_checkpoint(copy_of_stopped)
    for file in checkpoint.rglob("*"):
        if file.is_file() and file.stat().st_size > 50:
            file.write_bytes(b"nothing")
    assert train.main(["--resume", str(copy_of_stopped)]) == 2
    assert str(checkpoint) in capsys.readouterr().err


def test_a_finished_run_is_refused(trained_run, capsys):
    before = (trained_run / "summary.json").read_text()
    assert train.main(["--resume", str(trained_run)]) == 2
    assert "has finished" in capsys.readouterr().err
    assert (trained_run / "summary.json").read_text() == before


@pytest.mark.parametrize("content", ["{}", "[]", '{"config":', "\xff"])
def test_a_foreign_config_file_is_named(content, tmp_path, capsys):
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    assert train.main(["--resume", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "config.json") in error and error.count("\n") == 1


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert train.main(["--resume", str(tmp_path)]) == 2
    assert "config.json" in capsys.readouterr().err


def test_a_second_interrupt_stops_at_once():
    with train.StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_finished_run_is_lengthened_as_a_new_run_that_names_its_parent(trained_run, tmp_path):
    before = read_summary(trained_run)
    flags = ["--continue", str(trained_run), "--total-steps", "4096", "--out", str(tmp_path)]
    assert train.main(flags) == 0
    (run,) = (tmp_path / "AAAUSDT").iterdir()
    summary = read_summary(run)
    assert summary["parent"] == str(trained_run)
    assert (summary["training"][0]["updates"], next(line["update"] for line in learning(run))) == (8, 5)
    assert summary["training"][0]["best_validation"]["score"] >= before["training"][0]["best_validation"]["score"]
    assert read_summary(trained_run) == before


def test_lengthening_needs_more_steps_than_the_run_had(trained_run, tmp_path, capsys):
    assert train.main(["--continue", str(trained_run), "--total-steps", "2048", "--out", str(tmp_path / "x")]) == 2
    assert "needs --total-steps beyond the 2,048" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_run_is_lengthened_or_resumed_but_not_both(trained_run, capsys):
    assert train.main(["--continue", str(trained_run), "--resume", str(trained_run)]) == 2
    assert "give only one" in capsys.readouterr().err


def test_a_run_that_another_process_writes_is_not_resumed(copy_of_stopped, capsys):
    with run_lock(copy_of_stopped):
        assert train.main(["--resume", str(copy_of_stopped)]) == 2
    assert "is being written by process" in capsys.readouterr().err


def test_an_unfinished_run_is_not_lengthened(stopped_run, tmp_path, capsys):
    flags = ["--continue", str(stopped_run), "--total-steps", "4096", "--out", str(tmp_path / "x")]
    assert train.main(flags) == 2
    assert "has not finished; go on with it by --resume" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("group", "name", "value"), [("ppo", "total_steps", 9999), ("env", "slippage", 0.01)])
def test_a_config_file_whose_settings_were_edited_is_not_resumed(copy_of_stopped, group, name, value, capsys):
    path = copy_of_stopped / "config.json"
    content = json.loads(path.read_text())
    content["config"][group][name] = value
    path.write_text(json.dumps(content))
    assert train.main(["--resume", str(copy_of_stopped)]) == 2
    assert "has an edited config.json" in capsys.readouterr().err


def test_a_run_begun_by_a_version_without_that_hash_is_one_sentence(copy_of_stopped, capsys):
    path = copy_of_stopped / "config.json"
    content = json.loads(path.read_text())
    del content["config_sha256"]
    path.write_text(json.dumps(content))
    assert train.main(["--resume", str(copy_of_stopped)]) == 2
    assert "was begun by another version of jtf" in capsys.readouterr().err


def test_a_signal_that_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with train.StopRequest():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_asks_for_a_stop():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with train.StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop()
    finally:
        signal.signal(signal.SIGHUP, before)
