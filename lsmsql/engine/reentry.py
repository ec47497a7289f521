"""Reentry: a signal handler or finalizer comes in the middle of what its thread is doing, and must not wait for that to end."""

from __future__ import annotations

from typing import Any

from ..errors import UsageError


def owned(*locks: Any) -> bool:
    """Whether this thread holds one of the locks (each a threading.RLock, which the engine never takes twice)."""
    return any(lock._is_owned() for lock in locks)


def refuse_reentry(*locks: Any) -> None:
    """UsageError if this thread holds one of the locks: what it is in the middle of cannot go on before this call returns."""
    if owned(*locks):
        raise UsageError(
            "a write is under way on this thread; what comes in between (the items of put_many, a signal handler, a finalizer) "
            "may read the database, but not write to it"
        )
