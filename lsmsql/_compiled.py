"""Which compiled modules can be had, and may be used."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any


def compiled_module(name: str) -> Any:
    """The compiled module of that name, or None: it was not built, or LSMSQL_PURE=1 asks for the plain twin."""
    if os.environ.get("LSMSQL_PURE") == "1":
        return None
    try:
        return import_module(name)
    except ImportError:
        return None


def bridge_module() -> Any:
    """The module that SQLite loads as an extension, or None: it or a kernel was not built, or LSMSQL_PURE=1 or LSMSQL_BRIDGE=0 does without."""
    if os.environ.get("LSMSQL_BRIDGE") == "0" or compiled_module("lsmsql.engine.kernel.compiled") is None:
        return None
    return compiled_module("lsmsql.bridge.entry_cy")
