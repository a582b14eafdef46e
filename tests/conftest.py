import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

# The shapes in the package's signatures are checked at run time by beartype; functions that check their own arguments,
# with better messages, opt out. This must come before the package is imported.
jaxtyping.install_import_hook("ctd_models", "beartype.beartype")


def pytest_configure(config: pytest.Config) -> None:
    """Programs compiled by an earlier run are read from pytest's cache, also by the processes that tests start.

    The fast tests are mostly compilation, and so skip the optimisation of machine code (a quarter of their time); the slow
    ones run as users do.
    """
    if config.option.markexpr == "not slow":
        os.environ["XLA_FLAGS"] = f"--xla_backend_optimization_level=0 {os.environ.get('XLA_FLAGS', '')}"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("jax")))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    for name in (
        "compilation_cache_dir",
        "persistent_cache_min_compile_time_secs",
        "persistent_cache_min_entry_size_bytes",
    ):
        value = os.environ[f"JAX_{name.upper()}"]
        jax.config.update(f"jax_{name}", value if name.endswith("dir") else int(value))


@pytest.fixture(scope="module", autouse=True)
def fresh_programs():
    """Lets go of the programs that a module compiled: thousands of them exhaust the memory maps of a process."""
    yield
    from ctd_models.analysis.fixed_points import assessment, pursuit

    pursuit._COMPILED.clear()
    assessment._COMPILED.clear()
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The optional folder of data sets; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("CTD_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}; set CTD_DATA to it")
    return folder


class CompilationCounter:
    """Counts what XLA compiles while it is a context."""

    def __init__(self):
        self.count = 0
        self._counting = False
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event, duration, **_):
        if self._counting and event == "/jax/core/compile/backend_compile_duration":
            self.count += 1

    def __enter__(self):
        self.count, self._counting = 0, True
        return self

    def __exit__(self, *_):
        self._counting = False


@pytest.fixture(scope="session")
def compilations() -> CompilationCounter:
    return CompilationCounter()


@pytest.fixture(scope="session")
def random_variables() -> Callable[..., Any]:
    """(model, its inputs) → variables with normal entries, without compiling their initialisation."""

    def draw(model, *inputs, scale=0.5, seed=0):
        shapes, rng = jax.eval_shape(model.init, jax.random.key(0), *inputs), np.random.default_rng(seed)
        return jax.tree.map(lambda leaf: jnp.asarray(scale * rng.normal(size=leaf.shape), leaf.dtype), shapes)

    return draw
