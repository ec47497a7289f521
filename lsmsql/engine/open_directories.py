"""Which directories this process has open: opening one twice is refused, forked children are shut out, and leaving closes them."""

from __future__ import annotations

import atexit
import warnings
from collections.abc import Hashable
from typing import Protocol

from ..errors import UsageError
from .storage.filesystem import at_fork_in_child


class OpenDatabase(Protocol):
    path: str

    def close(self) -> None: ...
    def forked(self) -> None: ...


_open: dict[Hashable, OpenDatabase] = {}


def register(identity: Hashable, database: OpenDatabase) -> None:
    _open[identity] = database


def require_unopened(identity: Hashable, path: str) -> None:
    """UsageError if this process has the directory open: waiting for its lock would be waiting for ourselves."""
    if identity in _open:
        raise UsageError(f"{path} is already open in this process")


def unregister(identity: Hashable) -> None:
    _open.pop(identity, None)


def _in_child() -> None:
    for database in list(_open.values()):
        database.forked()
    _open.clear()


def _at_exit() -> None:
    # Commits of durability "off" may still be in memory, and threads must not outlive the interpreter.
    errors: list[Exception] = []
    for database in list(_open.values()):
        try:
            database.close()
            warnings.warn(f"unclosed <lsmsql.Database {database.path!r}>", ResourceWarning, stacklevel=2)
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]  # Python prints it: commits may be lost.


at_fork_in_child(_in_child)
atexit.register(_at_exit)
