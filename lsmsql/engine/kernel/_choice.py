"""Whether the compiled kernels can be had, and may be used."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any


def compiled_kernels() -> Any:
    """The module that gathers the compiled kernels, or None: none were built, or LSMSQL_PURE=1 asks for the plain twin."""
    if os.environ.get("LSMSQL_PURE") == "1":
        return None
    try:
        return import_module("lsmsql.engine.kernel.compiled")
    except ImportError:
        return None
