"""ReadView: the whole database at one seqno, taken once together: generations, one version over all trees, seqno."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from typing import Any, BinaryIO, Protocol, Self

from ..errors import ClosedError, HistoryError
from .arguments import require_batch_of, require_bound, require_items, require_number, require_tree_of
from .blob import ValueStream
from .kernel import Kind, Levels, Scan
from .kernel import get as kernel_get
from .kernel import get_many as kernel_get_many
from .read_state import Published, ReadState
from .write_batch import WriteBatch


class AnyTree(Protocol):
    """What a view needs of a tree."""

    @property
    def id(self) -> int: ...
    @property
    def database(self) -> object: ...


class Pinning(Protocol):
    """Who knows which seqnos can be read, and keeps those that are in use readable."""

    def pin(self, seqno: int | None = None) -> tuple[int, ReadState]: ...
    def release(self, seqno: int) -> None: ...


class View:
    """Reads at `seqno`, the last commit when it was made, whatever is committed meanwhile. state: in which; None once it is closed.

    It holds memtables and files until it is closed or dropped, but pins no history: nobody else can count on reading at its seqno.
    Arguments `batch` and `mark` put the operations of a write batch, or its first `mark` ones, before everything else.
    """

    __slots__ = ("database", "seqno", "state")

    def __init__(self, database: object, published: Published) -> None:
        self.state: ReadState | None
        self.database = database
        self.seqno, self.state = published.now()

    def get(self, tree: AnyTree, key: bytes, batch: WriteBatch | None = None, mark: int | None = None) -> bytes | None:
        """The value of a key, or None."""
        if getattr(tree, "database", None) is not self.database:  # Here too, since a call for nothing costs half as much as the lookup.
            require_tree_of(self.database, tree)
        if batch is not None:
            require_batch_of(self.database, batch, mark)
            found = batch.operations.get(tree.id, key, mark)
            if found is not None:
                return found[1] if found[0] == Kind.VALUE else None
        state = self.state
        if state is None:
            raise ClosedError("the read view is closed")
        memtables, levels = state.sources.get(tree.id) or state.open_sources(tree.id)
        return kernel_get(memtables, levels, key, self.seqno)  # type: ignore[no-any-return]

    def get_many(self, tree: AnyTree, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of keys, in their order; None where there is none."""
        require_tree_of(self.database, tree)
        require_items(keys)
        memtables, levels = self._opened().sources_of(tree.id)
        return kernel_get_many(memtables, levels, keys, self.seqno)  # type: ignore[no-any-return]

    def scan(
        self,
        tree: AnyTree,
        lower: bytes | None = None,
        upper: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
        since: int = 0,
        batch: WriteBatch | None = None,
        mark: int | None = None,
        close: bool = False,
        valued: bool = True,
    ) -> Scan:
        """The rows with lower <= key < upper, as a kernel Scan: iterable of (key, value), `fill(n)`, `next_block()`, `close()`.

        since: only rows changed by a commit after this seqno (0: all); HistoryError when that is no longer known. close: close the view with
        the scan. valued: False reads no value from the blob store, and gives b"" for
        those that are there. A scan stays valid when its view is closed."""
        state = self._opened()
        require_tree_of(self.database, tree)
        require_bound(lower)
        require_bound(upper)
        if limit is not None:
            require_number("limit", limit)
        require_number("since", since)
        if 0 < since < state.version.floor:
            raise HistoryError(f"changes since seqno {since} are not known any more; the oldest that are: since {state.version.floor}")
        memtables, levels = state.sources_of(tree.id)
        layer = None
        if batch is not None:
            require_batch_of(self.database, batch, mark)
            layer = batch.operations.memtable(tree.id, mark)
        return Scan(
            [layer, *memtables] if layer is not None else memtables,
            levels,
            lower,
            upper,
            self.seqno,
            reverse=reverse,
            since=since,
            limit=limit,
            # What a scan of everything reads would only push out what others read again.
            keep=not (lower is None and upper is None and limit is None),
            on_close=self.close if close else partial(_keep, state, self.database),
            valued=valued,
        )

    def open_value(self, tree: AnyTree, key: bytes, *, close: bool = False) -> BinaryIO | None:
        """The value of a key as a file, None if there is none. close: close the view with the file, which holds until then what it reads."""
        require_tree_of(self.database, tree)
        state = self._opened()
        memtables, levels = state.sources_of(tree.id)
        on_close = self.close if close else partial(_keep, state, self.database)
        opening = Levels(levels.levels, _Opening(levels.apart, on_close))
        found = kernel_get(memtables, opening, key, self.seqno)
        if isinstance(found, bytes):
            found = BytesIO(found)
        if not isinstance(found, ValueStream) and close:
            self.close()
        return found  # type: ignore[no-any-return]

    def _opened(self) -> ReadState:
        if self.state is None:
            raise ClosedError("the read view is closed")
        return self.state

    def close(self) -> None:
        """Let go of the files, and of the history if it was pinned. Closing twice is allowed."""
        self.state = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class ReadView(View):
    """A view at any retained seqno, which pins it: as long as it is open others can read there too."""

    __slots__ = ("_pins",)

    def __init__(self, database: object, pins: Pinning, seqno: int | None = None) -> None:
        """seqno: None for the last published. HistoryError when it is not retained, or not yet there."""
        self.state: ReadState | None = None
        self.database = database
        self._pins = pins
        self.seqno, self.state = pins.pin(seqno)

    def close(self) -> None:
        # From a finalizer too, so it takes no lock and removes no file.
        state, self.state = self.state, None
        if state is not None:
            self._pins.release(self.seqno)

    def __del__(self) -> None:
        self.close()


class _Opening:
    """In place of a blob store, opens values instead of reading them."""

    def __init__(self, blobs: Any, on_close: Callable[[], None]) -> None:
        self._blobs = blobs
        self._on_close = on_close

    def read(self, key: bytes, pointer: bytes) -> ValueStream:
        return self._blobs.open(key, pointer, self._on_close)  # type: ignore[no-any-return]


def _keep(*_: object) -> None:
    """What a scan calls when it ends, and holds until then with what it needs: the files of its state, and the database, which stays open."""
