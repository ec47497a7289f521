"""Tables about the engine: `lsm_stats(name, value)`, one row for each figure. The hidden column `schema` chooses the database:
`SELECT * FROM lsm_stats('aux')`; without it it is main."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import apsw

from ..errors import UsageError
from .session import Session

_SCHEMA = 2


class StatsModule:
    """An eponymous table: it is there without CREATE."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def Connect(self, _connection: apsw.Connection, *_names: str) -> tuple[str, StatsTable]:
        return "CREATE TABLE x(name TEXT, value, schema TEXT HIDDEN)", StatsTable(self._session)


class StatsTable:
    def __init__(self, session: Session) -> None:
        self._session = session

    def BestIndexObject(self, info: apsw.IndexInfo) -> bool:
        for i in range(info.nConstraint):
            if info.get_aConstraint_iColumn(i) == _SCHEMA and info.get_aConstraint_op(i) == apsw.SQLITE_INDEX_CONSTRAINT_EQ:
                if not info.get_aConstraint_usable(i):
                    return False
                info.set_aConstraintUsage_argvIndex(i, 1)
                info.set_aConstraintUsage_omit(i, True)
                info.idxStr = "statistics of schema = ?"
                return True
        info.idxStr = "statistics of main"
        return True

    def Open(self) -> StatsCursor:
        return StatsCursor(self._session)

    def Disconnect(self) -> None:
        pass

    Destroy = Disconnect


class StatsCursor:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._rows: list[tuple[str, Any, str]] = []
        self._position = 0

    def Filter(self, _idx_num: int, _idx_str: str, args: Sequence[Any]) -> None:
        schema = args[0] if args else "main"
        if not isinstance(schema, str):
            raise UsageError(f"lsm_stats: the schema is given by its name, not {schema!r}")
        engine = self._session.engine(schema)
        engine.refresh()
        figures = engine.statistics()
        self._rows = [(name, value, schema) for name, value in figures.items()]
        self._position = 0

    def Eof(self) -> bool:
        return self._position >= len(self._rows)

    def Column(self, number: int) -> Any:
        return self._position if number < 0 else self._rows[self._position][number]

    def Next(self) -> None:
        self._position += 1

    def Rowid(self) -> int:
        return self._position

    def Close(self) -> None:
        pass


def register(connection: apsw.Connection, session: Session) -> None:
    connection.create_module("lsm_stats", cast(Any, StatsModule(session)), use_bestindex_object=True, iVersion=2, eponymous=True, eponymous_only=True)
