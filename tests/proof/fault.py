"""What the fault-injecting file system counts, and what it can be told to do: operations, crashes, failures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MUTATING = ("create", "append", "sync", "rename", "remove", "sync_directory", "make_directory", "write_at", "preallocate", "punch")
SYNCS = ("sync", "sync_directory")
OTHERS = ("open", "read", "list", "size", "lock", "drop_cached")  # Fallible, and counted by faults, but never a crash point.
KINDS = MUTATING + OTHERS


class Crash(BaseException):
    """The machine stops here. A BaseException, so that no handler of errors keeps it alive."""


@dataclass(frozen=True)
class Operation:
    """One mutating call, in the order of `index`; detail: the target of a rename, the size of an append."""

    index: int
    kind: str
    path: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.index}: {self.kind} {self.path} {self.detail}".rstrip()


class Fault:
    """A failure to come: the `nth` matching call (from 1) from now on raises OSError, and with `persistent` all after it.

    hits: how often it did; calls: how many matching calls there were."""

    def __init__(self, kinds: tuple[str, ...], nth: int, code: int, persistent: bool, match: Callable[[str], bool] | None) -> None:
        self.kinds, self.nth, self.code, self.persistent, self.match = kinds, nth, code, persistent, match
        self.calls = self.hits = 0

    def strikes(self, kind: str, path: str) -> bool:
        if kind not in self.kinds or (self.match is not None and not self.match(path)):
            return False
        self.calls += 1
        if self.calls == self.nth or (self.persistent and self.calls > self.nth):
            self.hits += 1
            return True
        return False
