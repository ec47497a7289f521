"""Every error lsmsql raises on purpose. Three kinds, never mixed: misuse, damaged data, and the state of the world."""

from __future__ import annotations


class Error(Exception):
    """The root: `except lsmsql.Error` catches everything below and nothing else."""


class UsageError(Error):
    """The caller asked for something that cannot be: a bad option, an over-long key, a write to a snapshot."""


class CorruptionError(Error):
    """A file does not hold what was written to it.

    path: the file; offset: the byte where the damaged structure starts (None when the file as a whole is wrong);
    message: what is wrong; advice: what the reader of the message can do about it.
    """

    def __init__(self, path: str, offset: int | None, message: str, advice: str = "") -> None:
        self.path = path
        self.offset = offset
        self.message = message
        self.advice = advice
        where = path if offset is None else f"{path} at byte {offset}"
        super().__init__(f"{where}: {message}" + (f" ({advice})" if advice else ""))

    def __reduce__(self) -> tuple[type[CorruptionError], tuple[str, int | None, str, str]]:
        return type(self), (self.path, self.offset, self.message, self.advice)


class ClosedError(Error):
    """The database, snapshot or scan is closed, or was opened before a fork."""


class LockedError(Error):
    """Another process holds the database."""


class ConflictError(Error):
    """The operation collides with another: a constraint, a stale snapshot, a name already taken."""


class KeyUnavailableError(Error):
    """The data is encrypted and the key given does not open it, or there is none."""


class HistoryError(Error):
    """The moment asked for is not retained, or lies in the future."""
