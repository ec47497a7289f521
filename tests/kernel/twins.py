"""Both kinds of kernels side by side. The compiled ones are gathered module by module, so that each is tested even where another is missing."""

from __future__ import annotations

import os
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from lsmsql.engine.kernel import plain

MODULES = ("block_cy", "memtable_cy", "arena_cy", "record_cy", "libraries_cy")


def _gather() -> SimpleNamespace | None:
    names: dict[str, Any] = {}
    for module in MODULES:
        try:
            names.update(vars(import_module(f"lsmsql.engine.kernel.{module}")))
        except ImportError:
            return None
    return SimpleNamespace(**names)


_compiled = None if os.environ.get("LSMSQL_PURE") == "1" else _gather()
KERNELS = [pytest.param(plain, id="plain"), *([pytest.param(_compiled, id="compiled")] if _compiled else [])]
needs_compiled = pytest.mark.skipif(_compiled is None, reason="the compiled kernels are not built")


def compiled() -> Any:
    assert _compiled is not None
    return _compiled
