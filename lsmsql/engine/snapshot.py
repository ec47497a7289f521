"""Snapshot: a seqno that stays readable, while it is open or, when named, until its name is released."""

from __future__ import annotations

from typing import Any

from .read_view import Pinning, ReadView


class Snapshot:
    """Made by `Database.snapshot()`. Unlike a ReadView it holds no files, only history; reads at it take `snapshot=`.

    seqno: the last commit it sees; name: None, or the name under which it outlives this object and the process.
    """

    __slots__ = ("_open", "_pins", "database", "name", "seqno")

    def __init__(self, database: object, pins: Pinning, seqno: int | None = None, name: str | None = None) -> None:
        self._open = False
        self.database = database
        self._pins = pins
        self.seqno, _ = pins.pin(seqno)
        self.name = name
        self._open = True

    def read_view(self) -> ReadView:
        """A view at this seqno, with its own life."""
        return ReadView(self.database, self._pins, self.seqno)

    def close(self) -> None:
        """Let go. A named one stays readable by its name. Closing twice is allowed."""
        if self._open:
            self._open = False
            self._pins.release(self.seqno)

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
