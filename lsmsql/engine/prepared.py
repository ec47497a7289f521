"""Prepared commits: durable first, decided afterwards by a host whose own commit is the truth (engine rule 7).

From PREPARE to its outcome the commit line is held: nobody else commits, and no WAL is sealed. A seqno that was aborted is not used again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import NamedTuple, Protocol

from ..errors import HistoryError, LockedError, UsageError
from .storage.record_log import RecordKind


class Host(NamedTuple):
    """Who decides. name: for messages, usually a file; committed: the seqno of the last prepared commit that it has committed, 0 for none;
    database_id: of the engine directory that it belongs to, None for any; accept: go on although the two have not committed the same;
    files: that it may have been read from, and that the process which wrote them may have been killed before it synced: done now, and the
    names in the directory above the engine's too."""

    name: str
    committed: int
    database_id: bytes | None = None
    accept: bool = False
    files: tuple[str, ...] = ()

    def require_its_own(self, directory: str, database_id: bytes) -> None:
        """UsageError unless the engine directory is the host's."""
        if self.database_id not in (None, database_id):
            raise UsageError(f"the engine directory {directory} belongs to another database than {self.name}")

    def require_agreement(self, directory: str, seqno: int) -> None:
        """HistoryError unless `seqno`, the last prepared commit that was committed in the engine, is the host's last as well."""
        if self.accept or self.committed == seqno:
            return
        behind, ahead = (self.name, directory) if self.committed < seqno else (directory, self.name)
        raise HistoryError(
            f"{behind} is behind {ahead}: the last transaction in {self.name} is number {self.committed}, in {directory} {seqno}. One of them "
            "was restored from an older copy, or lost its newest transactions in a power failure. Restore the two together, or go on with "
            f"what there is: lsmsql repair --accept {self.name}"
        )


Deciding = Host | Callable[[], Host]
"""A host, or how to ask it once nobody else can commit: what it has said before that may be out of date."""


def ask(host: Deciding | None) -> Host | None:
    """The host, asked now."""
    return host() if callable(host) else host


class Settling(Protocol):
    """What a prepared commit needs of the commit line."""

    def prepare_again(self, prepared: PreparedCommit, payload: bytes, trees: tuple[int, ...]) -> None: ...
    def settle(self, prepared: PreparedCommit, kind: RecordKind) -> None: ...


class PreparedCommit:
    """A batch in the WAL that waits for its outcome.

    seqno: its number, which the host commits to; trees: it writes to; thread: who prepared it; settled: it has its outcome; ask: see `decide`,
    or None from it while the host is not done, so that whoever is held up finds out also when nobody gets to say so;
    complete: the open record of the arena is its batch; journal: the host commits by removing this file, in the directory above the engine's:
    that must last before a COMMIT may. "": it does not."""

    __slots__ = ("_line", "ask", "complete", "journal", "seqno", "settled", "thread", "trees")

    def __init__(self, line: Settling, seqno: int, trees: tuple[int, ...]) -> None:
        self._line = line
        self.seqno = seqno
        self.trees = trees
        self.thread = get_ident()
        self.ask: Callable[[], int | None] | None = None
        self.complete = False
        self.journal = ""
        self.settled = False

    def replace(self, payload: bytes, trees: tuple[int, ...]) -> None:
        """Prepare another batch in the place of this one, under its seqno."""
        self._line.prepare_again(self, payload, trees)

    def commit(self) -> None:
        """The host has committed: make the batch visible. When writing that down fails it is visible all the same, and every later write
        raises the error; recovery asks the host."""
        if not self.settled:
            self._line.settle(self, RecordKind.OUTCOME_COMMIT)

    def abort(self) -> None:
        """The host has rolled back."""
        if not self.settled:
            self._line.settle(self, RecordKind.OUTCOME_ABORT)

    def decide(self, ask: Callable[[], int]) -> None:
        """Let the host decide: `ask` returns the seqno of its last commit, or raises LockedError while it has no answer. Then whoever is held up
        by this commit asks again."""
        self.ask = ask
        with suppress(LockedError):
            self.ask_again()

    def ask_again(self) -> None:
        """Settle what the host is done with. LockedError when it gives no answer yet."""
        committed = None if self.ask is None or self.settled else self.ask()
        if committed is None:
            return
        if committed >= self.seqno:
            self.commit()
        else:
            self.abort()
