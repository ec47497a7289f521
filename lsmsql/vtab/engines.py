"""Engines that connections of this process share: one for each database file, closed when its last user lets go."""

from __future__ import annotations

import threading
from collections.abc import Callable
from hashlib import blake2b

from ..engine.database import Database
from ..engine.prepared import Host
from ..errors import KeyUnavailableError, LockedError, UsageError
from ..options import Options
from .sqlite_errors import as_busy

SUFFIX = "-lsm"


class SharedEngine:
    """An open engine, who opened it with what key, and how many connections use it. fresh: nobody has used it yet."""

    __slots__ = ("database", "fresh", "key_digest", "path", "users")

    def __init__(self, path: str, database: Database, key_digest: bytes) -> None:
        self.path = path
        self.database = database
        self.key_digest = key_digest
        self.users = 1
        self.fresh = True


_lock = threading.Lock()
_shared: dict[str, SharedEngine] = {}


def acquire(path: str, options: Options | None, key: str | bytes | None, *, create: bool, host: Callable[[], Host] | None) -> SharedEngine:
    """The engine directory at `path`, opened by this process once. Give it back with `release`.

    host: asked when the engine has to be opened. HistoryError when it and the engine have not committed the same.
    BusyError when another process has it, UsageError when it is not there and may not be made, KeyUnavailableError for another key
    than it is open with.
    """
    digest = _digest(key)
    with _lock:
        shared = _shared.get(path)
        if shared is None:
            try:
                database = Database.open(path, options, key=key, create=create, host=host() if host else None)
            except LockedError as error:
                raise as_busy(error) from error
            shared = _shared[path] = SharedEngine(path, database, digest)
            return shared
        if shared.key_digest != digest:
            raise KeyUnavailableError(f"{path} is open in this process with another key")
        if options is not None and options != shared.database.options:
            raise UsageError(f"{path} is open in this process with other options")
        shared.users += 1
        return shared


def in_memory(options: Options | None) -> SharedEngine:
    """An engine in memory, private to whoever asked."""
    return SharedEngine("", Database.open(":memory:", options), b"")


def release(shared: SharedEngine) -> None:
    """One user less; the last one closes the engine."""
    with _lock:
        shared.users -= 1
        if shared.users:
            return
        _shared.pop(shared.path, None)
        shared.database.close()


def _digest(key: str | bytes | None) -> bytes:
    if key is None:
        return b""
    return blake2b(key if isinstance(key, bytes) else key.encode(), digest_size=32, person=b"lsmsql connect").digest()
