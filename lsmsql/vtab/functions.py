"""SQL functions on the engine. All take the schema's name as an optional last argument (default: main).

lsm_seqno()          the seqno of the last commit
lsm_snapshot(name)   keep what is committed now readable under a name; its seqno
lsm_release(name)    give a snapshot up
lsm_flush()          write everything committed into SSTables
lsm_compact()        merge all SSTables, dropping what no snapshot sees
lsm_unlock(key)      give the passphrase of the schema's lsm tables, before one of them is first used
"""

from __future__ import annotations

from collections.abc import Callable

import apsw

from ..errors import UsageError
from .affinity import Value
from .engines import Engine
from .session import Session


def register(connection: apsw.Connection, session: Session) -> None:
    """Give a connection the functions. Those that change something cannot be used in triggers and views."""

    def add(name: str, arguments: int, body: Callable[..., Value], *, changes: bool) -> None:
        def function(*given: Value) -> Value:
            schema = given[arguments] if len(given) > arguments else "main"
            if not isinstance(schema, str):
                raise UsageError(f"{name}: the schema is given by its name, not {schema!r}")
            engine = session.engine(schema)
            if changes:
                session.require_writable(engine)
            if changes and session.transaction(engine, schema).has_writes:
                raise UsageError(f"{name} cannot be used in a transaction that has changed lsm tables; commit first")
            return body(engine, *given[:arguments])

        flags = apsw.SQLITE_DIRECTONLY if changes else 0
        for count in (arguments, arguments + 1):
            connection.create_scalar_function(name, function, count, flags=flags)

    # SQLite's own function does not see what Connection.last_insert_rowid knows.
    connection.create_scalar_function("last_insert_rowid", lambda *_nothing: session.last_insert_rowid(), 0, flags=apsw.SQLITE_INNOCUOUS)

    def unlock(*given: Value) -> None:
        key, schema = given if len(given) == 2 else (*given, "main")
        if not isinstance(key, str) or not isinstance(schema, str):
            raise UsageError("lsm_unlock: a passphrase is a text, and a schema is given by its name")
        session.unlock(schema, key)

    for count in (1, 2):
        connection.create_scalar_function("lsm_unlock", unlock, count, flags=apsw.SQLITE_DIRECTONLY)
    add("lsm_seqno", 0, _seqno, changes=False)
    add("lsm_snapshot", 1, _snapshot, changes=True)
    add("lsm_release", 1, _release, changes=True)
    add("lsm_flush", 0, _flush, changes=True)
    add("lsm_compact", 0, _compact, changes=True)


def _seqno(engine: Engine) -> Value:
    engine.refresh()
    return engine.seqno


def _snapshot(engine: Engine, name: Value) -> Value:
    if not isinstance(name, str) or not name:
        raise UsageError(f"lsm_snapshot: a snapshot's name is a text that is not empty, not {name!r}")
    with engine.snapshot(name) as snapshot:  # A named snapshot outlives this object.
        return snapshot.seqno


def _release(engine: Engine, name: Value) -> Value:
    if not isinstance(name, str):
        raise UsageError(f"lsm_release: a snapshot's name is a text, not {name!r}")
    engine.release(name)
    return None


def _flush(engine: Engine) -> Value:
    engine.flush()
    return None


def _compact(engine: Engine) -> Value:
    engine.compact()
    return None
