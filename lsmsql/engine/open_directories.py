"""Which directories this process has open: opening one again shares it, forked children are shut out, and leaving closes them."""

from __future__ import annotations

import atexit
import threading
import warnings
import weakref
from collections.abc import Hashable
from typing import Protocol

from .storage.filesystem import at_fork_in_child


class OpenDatabase(Protocol):
    def close(self) -> None: ...
    def forked(self) -> None: ...


_open: weakref.WeakValueDictionary[Hashable, OpenDatabase] = weakref.WeakValueDictionary()


# Held while a directory is opened or given back. A finalizer may come in between on the same thread.
changing = threading.RLock()


def register(identity: Hashable, database: OpenDatabase) -> None:
    _open[identity] = database


def find(identity: Hashable) -> OpenDatabase | None:
    """What this process has open at a directory: waiting for its lock would be waiting for ourselves."""
    return _open.get(identity)


def unregister(identity: Hashable, database: OpenDatabase) -> None:
    if _open.get(identity) is database:  # While one is closed by a finalizer, the next may be open already.
        del _open[identity]


def _in_child() -> None:
    global changing
    changing = threading.RLock()
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
