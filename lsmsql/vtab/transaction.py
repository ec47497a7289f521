"""Transaction: what one connection has pending in one engine, and the moment it reads at.

SQLite calls a virtual table's transaction methods once for every table; the tables of an engine share one Transaction and so one write
batch. Rules that SQLite and APSW force (each has a test):

- Everything that can fail happens in Sync: there the batch is prepared, durably, and its number written into app.db, whose own commit decides
  (engine/prepared.py). Commit publishes it, Rollback gives it up.
- A table that is created counts as begun: Sync and Commit come without Begin. DROP inside a transaction ends a table's part without
  Commit or Rollback.
- `RollbackTo(n)` means the oldest mark with level n or above; -1 the beginning. A table that joins late announces only the level in force.
- While a Python exception is pending APSW passes on neither RollbackTo nor Release. So the transaction knows which mark belongs to the
  statement that runs now: it looks at the next statement that starts (a trace hook, registered only while that matters). A failing
  change rolls its own statement back, and a statement that failed elsewhere (a user's function) is rolled back when the next one starts.
- A read-only transaction has no methods called at all; the same hook notices its end.
- An interrupt (Ctrl-C while SQLite syncs) is delivered as the next call from SQLite begins, and that call is lost: Commit, most likely. So the
  hook also looks whether a transaction that writes has ended unseen; until then whoever is held up by one that was prepared asks app.db. The
  bridge carries such a call out, and needs no hook for that.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import apsw

from ..engine.prepared import Host
from ..engine.reader import ReadOnlyDatabase
from ..errors import Error, HistoryError, LockedError, UsageError
from .catalog import Catalog, committed_number, read_commit_number, write_commit_number
from .pending_cy import Pending
from .sqlite_errors import busy, read_only_error, stale_snapshot
from .views_cy import SharedView, Views

if TYPE_CHECKING:
    from ..engine.prepared import PreparedCommit
    from ..engine.read_view import View
    from ..engine.tree import Tree
    from ..engine.write_batch import WriteBatch
    from .engines import Engine
    from .table import Table

BATCH_BYTES_MAX = 256 << 20
_ENTANGLED = "lsm: a function changed lsm tables while a statement changed them too; nothing of this transaction is kept"


class NumberWriter(Protocol):
    """The bridge's way to write a transaction's number into app.db."""

    def write(self, number: int, committed: int, written: int | None) -> bool:
        """False where `write_commit_number` is to find out why it cannot be."""
        ...


class Transaction:
    """Pending changes of one connection in one engine (`pending`), and the moment it reads at (`views`)."""

    def __init__(
        self, connection: apsw.Connection, schema_name: str, engine: Engine, batch_bytes_max: int = BATCH_BYTES_MAX, read_only: bool = False
    ) -> None:
        """read_only: the connection may not write, whatever the engine may."""
        self.connection = connection
        self.engine = engine
        self._schema_name = schema_name
        self._read_only = read_only
        self.views = Views(engine)
        self.pending = Pending(engine, self.views, batch_bytes_max)
        self._begun: set[object] = set()
        self.dropped_trees: set[str] = set()  # of tables that this connection has dropped, committed or not
        self._prepared: PreparedCommit | None = None  # from Sync to Commit or Rollback
        self._prepared_state: tuple[int, int] | None = None
        self._written: int | None = None  # the number that app.db has from this transaction
        self._host_file: str | None = None  # whose commit decides about it; empty for a database in memory, None until it is looked up
        self._number_writer: NumberWriter | None = None
        self._marks: list[tuple[int, int]] = []  # (level, place in the batch), outermost first
        self._statement: tuple[int, int] | None = None  # the mark of the statement that runs now, if it made one
        self._counts = (0, 0)  # SQLite's changes() and total_changes() when `_statement` was made
        self._programs: set[int] = set()  # statements that were seen to run triggers
        self._entangled = False  # a function has begun a statement since a table that joined late made `_statement`, maybe in one before it
        self._undone_level: int | None = None  # of a mark rolled back because its statement seemed to have failed
        self._poison = ""
        self._hooked = False
        self._committed_seqno = -1
        self._snapshot: int | None = None  # SQLite's data version when `_number` was read from app.db
        self._number = 0
        self._durable = engine.options.durability == "full"
        self._latest: tuple[int, View] | None = None  # of a ReadOnlyDatabase, as of the beginning of a transaction: (commit number, view)
        if isinstance(engine, ReadOnlyDatabase):
            connection.trace_v2(apsw.SQLITE_TRACE_STMT, self._look_ahead, id=self.views)

    # Reading

    def acquire_view(self, schema_name: str) -> SharedView:
        """The view that a new cursor reads at (see views_cy.py); give it back with `views.release`."""
        views = self.views
        if self._begun or self.connection.in_transaction:
            if not views.held:
                views.hold(self._frozen_view(schema_name) if views.shared is None else None)
                if not self._begun:
                    self._hook()
        elif views.held:
            views.let_go()  # a read-only transaction has ended
        # Outside of BEGIN too SQLite may be reading at an earlier moment: that of an unfinished SELECT, or of this statement's own beginning.
        return views.acquire(self._frozen_view(schema_name) if views.shared is None else None)  # type: ignore[no-any-return]

    def _frozen_view(self, schema_name: str) -> View:
        """The view that goes with the snapshot SQLite's own transaction reads; BusyError when it is not retained."""
        snapshot = self.connection.data_version(schema_name)
        if snapshot != self._snapshot:
            self._number = read_commit_number(self.connection, schema_name)
            self._snapshot = snapshot
        latest, self._latest = self._latest, None
        if latest is not None and latest[0] == self._number:
            return latest[1]
        try:
            return self.engine.host_view(self._number)
        except HistoryError as error:
            if self._number > self.engine.host_seqno:
                Host(self.connection.db_filename(schema_name) or "", self._number).require_agreement(self.engine.path, self.engine.host_seqno)
            raise stale_snapshot() from error

    def pending_now(self) -> tuple[WriteBatch | None, int]:
        """(batch, mark) that a cursor opened now reads through: what is pending, without what its own statement goes on to write."""
        batch = self.pending.batch
        if batch is None or not self._begun or not len(batch):
            return None, 0
        return batch, batch.mark()

    def changed_by_statement(self, tree: Tree, key: bytes, value: bytes) -> bool:
        """Whether a row, now `value`, was another before the statement that runs now (which changes several, or has only begun)."""
        if self._statement is None and self.connection.in_transaction:
            return False  # a statement without a mark changes one row
        mark = 0 if self._statement is None else self._statement[1]
        return self.views.shared.view.get(tree, key, self.pending.batch, mark) != value  # type: ignore[no-any-return]

    def last_key(self, tree: Tree) -> bytes | None:
        """The largest key, everything pending included."""
        rows = self.views.shared.view.scan(tree, reverse=True, limit=1, batch=self.pending.batch).fill(1)
        return rows[0][0] if rows else None

    # Writing

    @property
    def has_writes(self) -> bool:
        return bool(self._begun) and self.pending.place() > 0

    @property
    def begun(self) -> bool:
        """Whether a table takes part in a transaction that writes."""
        return bool(self._begun)

    def reconnected(self) -> None:
        """The schema may have been attached anew since a table was last read: SQLite's data versions tell nothing any more."""
        self._snapshot = None
        self._host_file = None

    def carried_out(self, number_writer: NumberWriter) -> None:
        """From now on SQLite's calls come by the bridge: each is carried out, whatever comes in between."""
        self._number_writer = number_writer

    def end(self) -> None:
        """The database that this belonged to is not there any more."""
        self.views.forget()
        self._unhook()
        if isinstance(self.engine, ReadOnlyDatabase):
            self.connection.trace_v2(0, None, id=self.views)

    def undo(self, *, keep: bool) -> None:
        """A change has failed, itself without effect: take back what SQLite will not ask for, since an exception is pending.

        keep: OR FAIL, so the rows before this one stay; otherwise the whole statement is undone.
        """
        statement, self._statement = self._statement, None
        if statement is not None:
            self._marks = [mark for mark in self._marks if mark != statement]
            self._doubt(statement)
            if not keep:
                self.pending.roll_back_to(statement[1])

    # SQLite's calls

    def begin(self, table: object) -> None:
        """The first write to a table in a transaction. BusyError when the transaction has read at a moment that is past."""
        if self._read_only:
            raise read_only_error("the lsm tables were opened for reading only")
        if table in self._begun:  # SQLite begins a table once in a transaction.
            self._ended_unseen()
        if not self._begun:
            self._start()
        self._begun.add(table)

    def _start(self) -> None:
        views = self.views
        if views.held and not self.connection.in_transaction:
            views.let_go()
        # SQLite has app.db's write lock by now. Whoever had it before us has committed there, but is maybe not yet done here.
        try:
            self.engine.wait_settled()
        except LockedError as error:
            raise busy(error) from error
        newest = self.engine.host_seqno
        if views.shared is not None and views.shared.view.seqno < newest:
            if views.held:
                raise stale_snapshot()
            views.forget()
        views.hold()
        if newest != self._committed_seqno:
            self.pending.serial += 1
        self.pending.start()
        self._forget_marks()
        if self._number_writer is None:
            self._hook()

    def _forget_marks(self) -> None:
        self._marks.clear()
        self._statement = self._undone_level = None
        self._poison = ""

    def savepoint(self, level: int, *, joining: bool) -> None:
        """SQLite opened a savepoint or a statement. joining: the table was begun by the same statement, and others may know of it already.

        Lower levels that nobody was told of were opened before the first table was begun, which it is by CREATE too: nothing was pending."""
        mark = (level, self.pending.place())
        known = {other[0] for other in self._marks}
        self._marks = sorted(self._marks + [(older, 0) for older in range(level) if older not in known])
        if joining and level in known:
            return
        self._marks = [other for other in self._marks if other[0] < level]
        self._marks.append(mark)
        self._statement = mark
        self._counts = self.connection.changes(), self.connection.total_changes()
        self._entangled = False
        self._programs.clear()
        self._undone_level = None
        self._hook()

    def release(self, level: int) -> None:
        if self._undone_level == level:
            self._poison = _ENTANGLED
        self._marks = [mark for mark in self._marks if mark[0] < level]
        if self._statement is not None and self._statement[0] >= level:
            self._statement = None

    def rollback_to(self, level: int) -> None:
        if level < 0:
            place = 0
        else:
            later = [mark for mark in self._marks if mark[0] >= level]
            if not later:
                return
            place = later[0][1]
            if self._undone_level is not None and self._undone_level >= level:
                self._undone_level = None
            self._marks = [mark for mark in self._marks if mark[0] < level] + later[:1]
        self.pending.roll_back_to(place)

    def sync(self, table: Table) -> None:
        """Prepare the whole transaction, durably, and write its number into app.db, whose commit decides. That may fail with BUSY, and the
        transaction go on: then it is prepared again when it has changed."""
        if table not in self._begun:
            return
        if self._poison:
            raise UsageError(self._poison)
        pending = self.pending
        batch = pending.batch
        if batch is None:
            return
        state = batch.operations.mark(), pending.serial
        if self._prepared is None:
            if not state[0]:
                return
            self._prepare(batch)
        elif state != self._prepared_state:
            self._prepared_state = None  # Should this fail, the next Sync tries again.
            self._prepared.replace(batch.operations.payload(), tuple(batch.operations.trees()))
        assert self._prepared is not None
        self._prepared_state = state
        if self._host_file is None:
            self._host_file = self.connection.db_filename(table.schema_name) or ""
        try:
            self._write_number(self._prepared.seqno)
        except BaseException:  # Without it app.db cannot commit this, nor say that it has not.
            prepared, self._prepared = self._prepared, None
            prepared.abort()
            raise
        if self._durable:
            self._prepared.journal = self._journal()

    def _prepare(self, batch: WriteBatch) -> None:
        try:
            self.engine.prepare(batch, self._adopt)
        except BaseException as error:
            if self._prepared is not None and not self._prepared.complete:
                self._prepared = None  # Nothing was prepared; else an interrupt came behind it, and Rollback will end it.
            if isinstance(error, LockedError):
                raise busy(error) from error
            raise

    def _adopt(self, prepared: PreparedCommit) -> None:
        prepared.ask = self._committed_if_over
        self._prepared = prepared

    def _write_number(self, number: int) -> None:
        """Write it into app.db. HistoryError when that was restored from a copy since the engine was opened: both must have committed the same."""
        committed = self.engine.host_seqno
        writer = self._number_writer
        if writer is not None and writer.write(number, committed, self._written):
            self._written = number
            return
        before = write_commit_number(self.connection, self._schema_name, number, (committed, self._written))
        if before not in (committed, self._written):
            Host(self._host_file or "this database in memory", before).require_agreement(self.engine.path, committed)
        self._written = number

    def _journal(self) -> str:
        """The rollback journal that SQLite has begun, "" in WAL mode. Below synchronous=EXTRA its removal, which is the commit, is not synced."""
        journal = f"{self._host_file}-journal"
        engine = self.engine
        if not self._host_file or isinstance(engine, ReadOnlyDatabase) or not engine.host_has(journal):
            return ""
        return journal

    def commit(self, table: Table) -> None:
        """app.db has committed."""
        prepared, self._prepared = self._prepared, None
        try:
            if prepared is not None:
                self._committed_seqno = committed = prepared.seqno
                prepared.ask = lambda: committed
                prepared.commit()
                if self.dropped_trees:
                    self._reclaim(table.schema_name)
        finally:
            self._end(table)

    def _reclaim(self, schema_name: str) -> None:
        """Remove the trees of dropped tables, unless the committed catalog names them: the DROP may have been rolled back."""
        dropped, self.dropped_trees = self.dropped_trees, set()
        with suppress(Error, OSError, apsw.Error):  # The commit stands, and the next opening tries again.
            with Catalog(self.connection, schema_name).committed() as catalog:
                named = catalog.trees()
            for name in dropped - named:
                self.engine.drop_tree(name)

    def rollback(self, table: Table) -> None:
        prepared, self._prepared = self._prepared, None
        try:
            if prepared is not None:
                # It may be there for good: a commit over several files in WAL mode fails when one file has its part.
                if self._host_file:
                    self._decide(prepared)
                else:
                    prepared.abort()
        finally:
            if table in self._begun:
                self.pending.roll_back_to(0)
                self.pending.serial += 1
            self._end(table)

    def _decide(self, prepared: PreparedCommit) -> None:
        """Let app.db say what became of a commit that it is done with."""
        if self._host_file:
            prepared.ask = partial(committed_number, self._host_file)  # Whoever is held up, should what follows be cut short.
        try:
            with Catalog(self.connection, self._schema_name).committed() as catalog:
                committed = catalog.commit_number()
        except Exception:  # Another connection has begun to write; this one is being closed; or a callback of the user's has raised.
            with suppress(LockedError):
                prepared.ask_again()
        else:
            prepared.decide(lambda: committed)

    def _committed_if_over(self) -> int | None:
        """The number that app.db has committed, None while SQLite is not done with a commit that is prepared. LockedError when it cannot be read
        now."""
        try:
            if self.connection.txn_state(self._schema_name) == apsw.SQLITE_TXN_WRITE:
                return None
        except apsw.ThreadingViolationError:  # It is just working.
            return None
        except (apsw.Error, ReferenceError):
            pass  # The connection is closed, or the database detached.
        if self._host_file:
            return committed_number(self._host_file)
        with Catalog(self.connection, self._schema_name).committed() as catalog:
            return catalog.commit_number()

    def _ended_unseen(self) -> None:
        """SQLite has ended the transaction, and an interrupt has kept that from us."""
        prepared, self._prepared = self._prepared, None
        try:
            if prepared is not None:
                self._decide(prepared)
        finally:
            self.pending.serial += 1
            self._begun.clear()
            self._end(None)

    def drop(self, table: object) -> None:
        """A table is dropped. SQLite will not speak of it again, so with savepoints around there is no telling whether it comes back."""
        if self._prepared is not None:
            raise UsageError("lsm: COMMIT was tried and has failed; end the transaction by COMMIT or ROLLBACK before DROP TABLE")
        older = [mark for mark in self._marks if mark != self._statement]  # DROP has a mark of its own
        if table in self._begun and older and self.has_writes:
            raise UsageError("lsm: DROP TABLE inside a savepoint needs the table's changes to be committed first")
        self._end(table)

    def _end(self, table: object) -> None:
        self._begun.discard(table)
        if not self._begun:
            self._written = None
            self.pending.forget()
            self._forget_marks()
            self.views.forget()
            self._unhook()

    def _look_ahead(self, event: dict[str, Any]) -> None:
        """A statement starts, and SQLite takes its snapshot next. To look at the engine now, rather than when one of its tables is read for the
        first time, leaves a writer no time to compact the moment of that snapshot away."""
        if not event["trigger"] and self.connection.txn_state() == apsw.SQLITE_TXN_NONE:
            self._latest = None
            with suppress(Error, OSError):  # Reading will raise it again.
                self.engine.refresh()
                self._latest = cast(ReadOnlyDatabase, self.engine).latest()

    # The trace hook

    def _hook(self) -> None:
        if not self._hooked:
            self._hooked = True
            self.connection.trace_v2(apsw.SQLITE_TRACE_STMT, self._statement_starts, id=self)

    def _unhook(self) -> None:
        if self._hooked:
            self._hooked = False
            try:
                self.connection.trace_v2(0, None, id=self)
            except (ReferenceError, apsw.ConnectionClosedError):
                pass  # A connection that is closed or dropped inside a transaction rolls back when it is gone already.

    def _statement_starts(self, event: dict[str, Any]) -> None:
        """A statement starts. SQLite marks those that run inside another (triggers, a function's own SQL) as `trigger`."""
        if event["trigger"]:
            self._statement_inside(event)
            return
        if self._begun and self.connection.txn_state(self._schema_name) != apsw.SQLITE_TXN_WRITE:
            self._ended_unseen()
            return
        statement, self._statement = self._statement, None
        if statement is not None and self.pending.place() > statement[1] and self._has_failed(event["total_changes"]):
            # It wrote, but SQLite counts no changes and did not release the mark: it failed, and APSW kept that from us.
            self._marks = [mark for mark in self._marks if mark != statement]
            self._doubt(statement)
            self._undone_level = statement[0]
            self.pending.roll_back_to(statement[1])
        if self.views.held and not self._begun:
            if self.connection.in_transaction:
                return  # still to see the end of a read-only transaction
            self.views.let_go()
        if not self._begun or self._number_writer is not None:
            self._unhook()

    def _statement_inside(self, event: dict[str, Any]) -> None:
        """A statement starts inside another: of a trigger, or a function's own."""
        number, sql = event["id"], event["sql"]
        if sql.startswith(("TRIGGER ", "-- TRIGGER ")):
            self._programs.add(number)
        elif number not in self._programs:
            self._programs.add(number)
            self._entangled = self._statement is not None

    def _has_failed(self, total_changes: int) -> bool:
        """Whether the statement that has ended failed: then changes() is 0, and total_changes() has grown by its triggers' changes at most.

        The action of a foreign key looks like a statement that starts, in the middle of one that runs; changes() is what it was before that."""
        connection = self.connection
        before, total_before = self._counts
        if connection.changes() != 0:
            return False
        return before != 0 or total_changes == total_before or not connection.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, -1)

    def _doubt(self, statement: tuple[int, int]) -> None:
        """The changes since a mark are taken back, and with several statements of a function in between that may be too many."""
        if self._entangled and self.pending.place() > statement[1]:
            self._poison = _ENTANGLED
