"""Which directories this process has open: opening one twice is refused, forked children are shut out, and leaving closes them."""

from __future__ import annotations

import atexit
import warnings
import weakref
from collections.abc import Hashable
from typing import Protocol

from ..errors import UsageError
from .storage.filesystem import at_fork_in_child


class OpenDatabase(Protocol):
    def close(self) -> None: ...
    def forked(self) -> None: ...


_open: weakref.WeakValueDictionary[Hashable, OpenDatabase] = weakref.WeakValueDictionary()


def register(identity: Hashable, database: OpenDatabase) -> None:
    _open[identity] = database


def require_unopened(identity: Hashable, path: str) -> None:
    """UsageError if this process has the directory open: waiting for its lock would be waiting for ourselves."""
    if identity in _open:
        raise UsageError(f"{path} is already open in this process")


def unregister(identity: Hashable, database: OpenDatabase) -> None:
    if _open.get(identity) is database:  # While one is closed by a finalizer, the next may be open already.
        del _open[identity]


def _in_child() -> None:
    for database in list(_open.values()):
        database.forked()
    _open.clear()


def _at_exit() -> None:
    # Commits of durability "off" may still be in memory, and threads must not outlive the interpreter.
    errors: list[Exception] = []
    for database in list(_open.values()):
        name = repr(database)
        try:
            database.close()
            warnings.warn(f"unclosed {name}", ResourceWarning, stacklevel=2)
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]  # Python prints it: commits may be lost.


at_fork_in_child(_in_child)
atexit.register(_at_exit)
