"""Whether the compiled kernels can be had, and may be used."""

from __future__ import annotations

from typing import Any

from ..._compiled import compiled_module


def compiled_kernels() -> Any:
    """The module that gathers the compiled kernels, or None: none were built, or LSMSQL_PURE=1 asks for the plain twin."""
    return compiled_module("lsmsql.engine.kernel.compiled")
