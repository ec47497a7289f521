"""Tables about the engine: `lsm_stats`, one row for each figure; `lsm_sstables`, `lsm_levels` and `lsm_wal`, what it is made of at the moment.
The hidden column `schema` chooses the database: `SELECT * FROM lsm_stats('aux')`; without it it is main."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import apsw

from ..engine import inspection
from ..errors import UsageError
from .engines import Engine
from .session import Session

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class About:
    """One table: its name, its columns as SQL declares them, and where its rows come from."""

    name: str
    columns: str
    rows: Callable[[Engine], Iterable[Row]]

    @property
    def width(self) -> int:
        """Columns but `schema`, which comes last."""
        return self.columns.count(",") + 1


TABLES = (
    About("lsm_stats", "name TEXT, value", lambda engine: engine.statistics().items()),
    About("lsm_sstables", inspection.SSTABLES, inspection.sstables),
    About("lsm_levels", inspection.LEVELS, inspection.levels),
    About("lsm_wal", inspection.WALS, inspection.wals),
)


class AboutModule:
    """An eponymous table: it is there without CREATE."""

    def __init__(self, session: Session, about: About) -> None:
        self._session = session
        self._about = about

    def Connect(self, _connection: apsw.Connection, *_names: str) -> tuple[str, AboutTable]:
        return f"CREATE TABLE x({self._about.columns}, schema TEXT HIDDEN)", AboutTable(self._session, self._about)


class AboutTable:
    def __init__(self, session: Session, about: About) -> None:
        self._session = session
        self._about = about

    def BestIndexObject(self, info: apsw.IndexInfo) -> bool:
        for i in range(info.nConstraint):
            if info.get_aConstraint_iColumn(i) == self._about.width and info.get_aConstraint_op(i) == apsw.SQLITE_INDEX_CONSTRAINT_EQ:
                if not info.get_aConstraint_usable(i):
                    return False
                info.set_aConstraintUsage_argvIndex(i, 1)
                info.set_aConstraintUsage_omit(i, True)
                info.idxStr = f"{self._about.name} of schema = ?"
                return True
        info.idxStr = f"{self._about.name} of main"
        return True

    def Open(self) -> AboutCursor:
        return AboutCursor(self._session, self._about)

    def Disconnect(self) -> None:
        pass

    Destroy = Disconnect


class AboutCursor:
    def __init__(self, session: Session, about: About) -> None:
        self._session = session
        self._about = about
        self._rows: list[Row] = []
        self._position = 0

    def Filter(self, _idx_num: int, _idx_str: str, args: Sequence[Any]) -> None:
        schema = args[0] if args else "main"
        if not isinstance(schema, str):
            raise UsageError(f"{self._about.name}: the schema is given by its name, not {schema!r}")
        engine = self._session.engine(schema)
        engine.refresh()
        self._rows = [(*row, schema) for row in self._about.rows(engine)]
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
    """Give a connection all of them."""
    for about in TABLES:
        module = cast(Any, AboutModule(session, about))
        connection.create_module(about.name, module, use_bestindex_object=True, iVersion=2, eponymous=True, eponymous_only=True)
