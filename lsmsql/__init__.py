"""lsmsql gives SQLite an LSM-tree storage engine."""

from __future__ import annotations

from .errors import ClosedError, ConflictError, CorruptionError, Error, HistoryError, KeyUnavailableError, LockedError, UsageError
from .options import Options

__all__ = [
    "ClosedError",
    "ConflictError",
    "CorruptionError",
    "Error",
    "HistoryError",
    "KeyUnavailableError",
    "LockedError",
    "Options",
    "UsageError",
]
