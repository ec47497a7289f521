"""DEFAULT clauses: read, checked and evaluated once, by a SQLite connection that holds nothing else.

Only expressions whose value is the same for ever are allowed, and the three clock words, which are read for each row.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import apsw

from ..errors import UsageError
from .affinity import Value

CLOCKS = {"CURRENT_TIMESTAMP": "%Y-%m-%d %H:%M:%S", "CURRENT_DATE": "%Y-%m-%d", "CURRENT_TIME": "%H:%M:%S"}


@dataclass(frozen=True, slots=True)
class Default:
    """text: as written after DEFAULT; constant: its value; clock: the strftime format of a CURRENT_... word, or None."""

    text: str
    constant: Value = None
    clock: str | None = None

    def value(self) -> Value:
        """What an omitted column gets now."""
        return self.constant if self.clock is None else time.strftime(self.clock, time.gmtime())


def read_default(text: str, argument: str) -> Default:
    """The default written as `text` (a literal, a clock word or a parenthesised expression) in `argument`."""
    clock = CLOCKS.get(text.upper())
    if clock is not None:
        return Default(text.upper(), None, clock)
    judge = apsw.Connection(":memory:")
    try:
        # SQLite itself refuses subqueries, parameters and non-deterministic functions in generated columns: some when the table
        # is made, others ('now') when a row is.
        judge.execute(f"CREATE TABLE judge(_judge, value AS ({text}) STORED)")
        judge.execute("INSERT INTO judge VALUES (1)")
        return Default(text, judge.execute(f"SELECT {text}").get)
    except apsw.Error as error:
        reason = str(error).replace("a generated column", "DEFAULT").replace("generated columns", "DEFAULT")
        raise UsageError(f"lsm: DEFAULT needs a constant ({reason}): {argument}") from None
    finally:
        judge.close()
