"""Data that comes with the package, so that everything can be tried without a download."""

from __future__ import annotations

from equiformer_jax.data.embedded.aspirin import load_embedded_aspirin

__all__ = ["load_embedded_aspirin"]
