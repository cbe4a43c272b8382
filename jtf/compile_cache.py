"""The compilation cache: what was compiled before on this machine is read instead of compiled again."""

import hashlib
import os
import platform
import re
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

MOST_BYTES = 2**30
"""Size of the cache above which the programs not read for longest are deleted, at the next start."""


def use_compile_cache() -> None:
    """Keep compiled programs in the user's cache directory; where it cannot be written, say so in a sentence.

    A cache that the process has already, e.g. by ``JAX_COMPILATION_CACHE_DIR``, is left as it is.
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    directory = cache_directory()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        prune(directory, MOST_BYTES)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        print(
            f"note: {directory} cannot be written ({error.strerror}); compiled programs are not kept.", file=sys.stderr
        )
        return
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update("jax_compilation_cache_dir", str(directory))
    compilation_cache.reset_cache()  # Whether there is a cache is decided at the first compilation of a process.


def cache_directory() -> Path:
    """Return where the programs of this JAX on this kind of processor are kept.

    A program compiled for another processor may end in an illegal instruction, so the folder's name holds a hash of the
    instruction sets.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    features = hashlib.sha256(cpu_features().encode()).hexdigest()[:8]
    return Path(home) / "jtf" / "compiled" / f"jax-{version('jax')}-jaxlib-{version('jaxlib')}-{features}"


def cpu_features() -> str:
    """Return the processor's instruction sets as the system names them; its name where the system does not."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^(?:flags|Features)\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    return f"{platform.machine()} {found[1] if found else platform.processor()}"


def prune(directory: Path, most_bytes: int) -> None:
    """Delete the files of `directory` that were not read for longest until the others fit into `most_bytes`."""
    files = []
    for path in directory.iterdir():
        with suppress(FileNotFoundError):  # Another process prunes too.
            files.append((path, path.stat()))
    total = 0
    for path, stat in sorted(files, key=lambda file: -file[1].st_atime):
        total += stat.st_size
        if total > most_bytes:
            path.unlink(missing_ok=True)
