"""Settings of every test run: float64, the CPU, a compilation cache, hypothesis."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from tests.paths import REPOSITORY

# Before jax is imported. Exactness is tested in float64, which only the CPU and GPUs have.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPOSITORY / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
# Tests spend their time compiling tiny programs that run once: without optimizations that takes a
# third as long. Tests of the programs run them in processes of their own, as users do.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)

import jax

jax.config.update("jax_enable_x64", True)

hypothesis.settings.register_profile(
    "equiformer",
    deadline=None,  # the first example of a test compiles
    max_examples=20,
    derandomize="CI" in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("equiformer")


@pytest.fixture
def float32_mode() -> Iterator[None]:
    """Runs a test as a user has it: without jax's x64 mode."""
    with jax.enable_x64(False):
        yield
