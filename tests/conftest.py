"""Shared fixtures: strict JAX settings and the real bars that lie beside the project."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

# Each program is compiled once a session, here and in the processes that tests start; nothing goes into the user's own
# cache. A worker has a folder of its own: an entry that another one is still writing would be read half.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jtf-tests-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

REAL_DATA = Path(os.environ.get("JTF_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real bars; tests that need it skip where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real bars are not at {REAL_DATA} (set JTF_REAL_DATA)")
    return REAL_DATA
