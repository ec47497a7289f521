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
