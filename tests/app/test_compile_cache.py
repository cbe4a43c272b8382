"""The compilation cache: on by default, per JAX and processor, and never the reason that a run fails."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

import jtf.selftest
import jtf.task
from jtf.compile_cache import cache_directory, prune, use_compile_cache
from jtf.config import parse_config

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)
PROGRAM = """
import jax, jax.monitoring
from jtf.compile_cache import use_compile_cache
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("cache_hits") else None)
use_compile_cache()
assert float(jax.jit(lambda x: jax.numpy.sin(x) * 3)(0.0)) == 0.0
print("hits", len(hits))
"""


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """No cache in this process yet; the folder that ``XDG_CACHE_HOME`` names."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)


def start(home: Path) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environment | {"XDG_CACHE_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def hits(process: subprocess.Popen) -> int:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return int(out.split()[-1])


def test_a_second_process_reads_what_the_first_ones_compiled_and_spoilt_entries_end_no_run(tmp_path: Path) -> None:
    for process in [start(tmp_path), start(tmp_path)]:  # At once.
        hits(process)
    assert hits(start(tmp_path)) > 0
    entries = list(tmp_path.rglob("*-cache"))
    assert entries
    for index, entry in enumerate(entries):
        entry.write_bytes(entry.read_bytes()[:-9] if index % 2 else b"garbage" * 99)
    assert hits(start(tmp_path)) == 0


def test_the_cache_lies_in_the_users_cache_folder(no_cache: Path) -> None:
    use_compile_cache()
    assert Path(jax.config.jax_compilation_cache_dir) == cache_directory()
    assert cache_directory().is_relative_to(no_cache)
    assert f"jax-{jax.__version__}" in cache_directory().name


def test_another_processor_has_another_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = cache_directory()
    monkeypatch.setattr("jtf.compile_cache.cpu_features", lambda: "x86_64 sse2")
    assert cache_directory() != ours


def test_a_cache_that_the_process_has_already_is_left(no_cache: Path) -> None:
    jax.config.update("jax_compilation_cache_dir", "elsewhere")
    use_compile_cache()
    assert jax.config.jax_compilation_cache_dir == "elsewhere"
    assert not list(no_cache.iterdir())


def test_a_cache_folder_that_cannot_be_written_is_said_in_a_sentence_and_the_run_goes_on(
    no_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (no_cache / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(no_cache / "file"))
    use_compile_cache()
    assert jax.config.jax_compilation_cache_dir is None
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "cannot be written" in said


def test_the_programs_that_were_read_last_are_kept(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "middle", "old")):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1e9 - age, 1e9))
    prune(tmp_path, 20)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "middle"}


@pytest.mark.parametrize(("flags", "used"), [((), True), (("--no-compile-cache",), False)])
def test_commands_use_the_cache_unless_told_not_to(
    flags: tuple[str, ...], used: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    for module in (jtf.task, jtf.selftest):
        monkeypatch.setattr(module, "use_compile_cache", lambda name=module.__name__: asked.append(name))
    monkeypatch.setattr(jtf.selftest, "SHORT", ())
    jtf.task.load_symbol(parse_config(["--symbol", "CLSK", *flags]))
    assert jtf.selftest.main([*flags]) == 0
    assert asked == (["jtf.task", "jtf.selftest"] if used else [])
