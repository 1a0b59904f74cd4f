from __future__ import annotations

import configparser

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equiformer_jax.compatibility import (
    BROKEN_JAX_VERSIONS,
    UnsupportedJaxVersionError,
    check_jax_version,
)
from tests.paths import REPOSITORY


def test_the_installed_version_is_accepted():
    check_jax_version()


@pytest.mark.parametrize("package", ["jax", "jaxlib"])
@pytest.mark.parametrize("version", sorted(BROKEN_JAX_VERSIONS))
def test_broken_versions_are_refused_in_one_line(package, version):
    versions = {"jax": "0.10.1", "jaxlib": "0.10.1", package: version}
    with pytest.raises(UnsupportedJaxVersionError, match=f"^{package} {version} ") as error:
        check_jax_version(versions)
    assert "requirements.txt" in str(error.value)
    assert "\n" not in str(error.value)


def test_setup_excludes_the_broken_versions():
    settings = configparser.ConfigParser()
    settings.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    requirements = settings["options"]["install_requires"].split()
    for package in ("jax", "jaxlib"):
        (line,) = [line for line in requirements if line.startswith(f"{package}>=")]
        for version in BROKEN_JAX_VERSIONS:
            assert f"!={version}" in line.split(",")


@pytest.mark.parametrize(("dtype", "num_rows"), [(np.float64, 16_385), (np.float32, 32_769)])
def test_matrix_vector_products_and_their_reduction_are_right(dtype, num_rows):
    """jax issue 39103: jax 0.10.2 gets the last rows wrong on the CPU, silently."""
    rows = np.zeros((num_rows, 3), dtype)
    rows[:, 0] = np.arange(num_rows)
    identity = jnp.eye(3, dtype=dtype)

    @jax.jit
    def squared_norms(rows: jax.Array) -> jax.Array:
        return jax.vmap(lambda row: jnp.sum((identity @ row) ** 2))(rows)

    np.testing.assert_allclose(squared_norms(rows), rows[:, 0] ** 2, rtol=1e-6)
