"""Compilation for tests that need numbers but no speed."""

from __future__ import annotations

import functools

import jax

# Code that need not be fast compiles several times sooner.
COMPILER_OPTIONS = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}

compile_quickly = functools.partial(jax.jit, compiler_options=COMPILER_OPTIONS)
