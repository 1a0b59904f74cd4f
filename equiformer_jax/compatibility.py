"""Refuses versions of jax that are known to compute wrong numbers or not to work with Flax."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata

# Version -> what is wrong with it. 0.10.2 is the dangerous one: a vmapped matrix-vector product and
# a reduction after it, the pattern of every edge-wise layer, silently come out wrong above some
# 16,000 rows in float64 and 32,000 in float32 (tests/test_compatibility.py has the reproducer).
BROKEN_JAX_VERSIONS: Mapping[str, str] = {
    "0.10.2": "computes wrong numbers on CPUs (jax issue 39103)",
    "0.11.0": "has known defects (jax issues 39257 and 40412)",
    "0.11.1": "has known defects (jax issues 39257 and 40412)",
}


class UnsupportedJaxVersionError(RuntimeError):
    """The installed jax or jaxlib must not be used."""


def check_jax_version(versions: Mapping[str, str] | None = None) -> None:
    """Refuses a broken jax or jaxlib.

    Args:
        versions: package name -> version; None looks at what is installed.

    Raises:
        UnsupportedJaxVersionError: one of them is in `BROKEN_JAX_VERSIONS`.
    """
    if versions is None:
        versions = {package: metadata.version(package) for package in ("jax", "jaxlib")}
    for package, version in versions.items():
        if version in BROKEN_JAX_VERSIONS:
            raise UnsupportedJaxVersionError(
                f"{package} {version} {BROKEN_JAX_VERSIONS[version]}: install the versions in "
                "requirements.txt (pip install -r requirements.txt)"
            )
