"""Tree: one named, ordered map from bytes to bytes, with a dict-like face."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NoReturn, Protocol, TypeVar, overload

from ..errors import ClosedError, Error, UsageError
from .arguments import require_bound, require_items
from .kernel import Scan
from .kernel import get as kernel_get
from .kernel import get_many as kernel_get_many
from .read_state import Published, closed_door
from .read_view import ReadView
from .snapshot import Snapshot

Moment = ReadView | Snapshot | int | str
"""When to read: an open view or snapshot, a seqno, or the name of a durable snapshot."""

Default = TypeVar("Default")


class Writer(Protocol):
    """Where a tree's own writes go: the commit line, or a refusal."""

    def put(self, tree: int, key: bytes, value: bytes) -> None: ...
    def delete(self, tree: int, key: bytes) -> None: ...
    def put_many(self, tree: int, items: Iterable[tuple[bytes, bytes]], durability: str | None = None) -> int: ...


class Refusal:
    """A writer for trees that may not be written: every write raises UsageError, or another error."""

    def __init__(self, message: str, error: type[Error] = UsageError) -> None:
        self._message = message
        self._error = error

    def put(self, tree: int, key: bytes, value: bytes) -> NoReturn:
        raise self._error(self._message)

    def delete(self, tree: int, key: bytes) -> NoReturn:
        raise self._error(self._message)

    def put_many(self, tree: int, items: Iterable[tuple[bytes, bytes]], durability: str | None = None) -> NoReturn:
        raise self._error(self._message)


class Owner(Protocol):
    """What a tree asks of its database."""

    def view_at(self, moment: Moment | None) -> tuple[ReadView, bool]: ...
    def ingest_into(self, tree: Tree, rows: Iterable[tuple[bytes, bytes]]) -> int: ...
    def delete_range_of(self, tree: Tree, lower: bytes | None, upper: bytes | None) -> None: ...


class Tree:
    """Keys up to 65,535 bytes, values up to 1,000,000,000, in ascending order of keys as bytes. Every write is a commit of its own.

    Bounds of ranges are half-open, [lower, upper), and None is open. `snapshot`: read as of then (see Moment) instead of now.
    """

    __slots__ = ("__weakref__", "_published", "_writer", "database", "id", "name")

    def __init__(self, database: Owner, published: Published, tree_id: int, name: str, writer: Writer) -> None:
        self.id = tree_id
        self.name = name
        self.database = database
        self._published = published
        self._writer = writer

    def put(self, key: bytes, value: bytes) -> None:
        self._writer.put(self.id, key, value)

    def delete(self, key: bytes) -> None:
        """Delete a key; nothing happens if it is not there."""
        self._writer.delete(self.id, key)

    def put_many(self, items: Iterable[tuple[bytes, bytes]]) -> int:
        """Put all (key, value) in one commit, and return how many they were. When the iterable raises, nothing is written.

        The iterable may read the database, but not write to it; other writers wait until it ends."""
        require_items(items)
        return self._writer.put_many(self.id, items)

    def get(self, key: bytes, default: Any = None, snapshot: Moment | None = None) -> Any:
        """The value of a key, or `default`."""
        if snapshot is None:
            published = self._published
            state = published.state  # Before the seqno: see Published.
            memtables, levels = state.sources.get(self.id) or state.open_sources(self.id)
            value = kernel_get(memtables, levels, key, published.seqno)
        else:
            view, ours = self.database.view_at(snapshot)
            try:
                value = view.get(self, key)
            finally:
                if ours:
                    view.close()
        return default if value is None else value

    def get_many(self, keys: Sequence[bytes], snapshot: Moment | None = None) -> list[bytes | None]:
        """The values of keys, in their order, all as of one moment; None where there is none."""
        require_items(keys)
        if snapshot is None:
            published = self._published
            state = published.state
            memtables, levels = state.sources.get(self.id) or state.open_sources(self.id)
            return kernel_get_many(memtables, levels, keys, published.seqno)  # type: ignore[no-any-return]
        view, ours = self.database.view_at(snapshot)
        try:
            return view.get_many(self, keys)
        finally:
            if ours:
                view.close()

    def open_blob(self, key: bytes, snapshot: Moment | None = None) -> BinaryIO:
        """The value of a key as a file to be read, seekable. One in the blob store is read a stretch of at most 512 KiB at a time. KeyError if there
        is none. Close it: until then it keeps the files of its moment, and that moment readable."""
        view, ours = self.database.view_at(snapshot)
        try:
            found = view.open_value(self, key, close=ours)
        except BaseException:
            if ours:
                view.close()
            raise
        if found is None:
            raise KeyError(key)
        return found

    def contains(self, key: bytes, snapshot: Moment | None = None) -> bool:
        return self.get(key, None, snapshot) is not None

    def scan(
        self,
        lower: bytes | None = None,
        upper: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
        prefix: bytes | None = None,
        snapshot: Moment | None = None,
    ) -> Scan:
        """An iterator of (key, value) over a range or the keys with a prefix, at most `limit`, as of the moment of this call."""
        if prefix is not None:
            if lower is not None or upper is not None:
                raise UsageError("a scan takes bounds or a prefix, not both")
            require_bound(prefix)
            lower, upper = prefix, after_prefix(prefix)
        view, ours = self.database.view_at(snapshot)
        try:
            return view.scan(self, lower, upper, reverse=reverse, limit=limit, close=ours)
        except BaseException:
            if ours:
                view.close()
            raise

    def ingest(self, rows: Iterable[tuple[bytes, bytes]]) -> int:
        """Write rows in strictly ascending order of keys straight into SSTables, as one commit, much faster than `put_many`.

        Returns its seqno. UsageError, with the row's number, where the keys do not ascend; then nothing is written."""
        if isinstance(self._writer, Refusal):
            self._writer.put(self.id, b"", b"")
        require_items(rows)
        return self.database.ingest_into(self, rows)

    # Like a dict.

    @overload
    def __getitem__(self, key: bytes) -> bytes: ...
    @overload
    def __getitem__(self, key: slice) -> Scan: ...
    def __getitem__(self, key: bytes | slice) -> bytes | Scan:
        """`tree[key]`, KeyError if it is not there; `tree[lower:upper]`, a scan."""
        if isinstance(key, slice):
            return self.scan(*_bounds(key))
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value  # type: ignore[no-any-return]

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._writer.put(self.id, key, value)

    def __delitem__(self, key: bytes | slice) -> None:
        """`del tree[key]`, without an error if it is not there; `del tree[lower:upper]` in one commit."""
        if isinstance(key, slice):
            self.database.delete_range_of(self, *_bounds(key))
        else:
            self._writer.delete(self.id, key)

    def __contains__(self, key: bytes) -> bool:
        return self.get(key) is not None

    def __iter__(self) -> Iterator[bytes]:
        """The keys, ascending."""
        view, ours = self.database.view_at(None)
        return (key for key, _ in view.scan(self, close=ours, valued=False))

    def __repr__(self) -> str:
        return f"<lsmsql.Tree {self.name!r}>"

    # For the database and its batches.

    def require_writable(self) -> None:
        """UsageError unless a batch may write to the tree."""
        if isinstance(self._writer, Refusal):
            self._writer.put(self.id, b"", b"")

    def move_to(self, published: Published) -> None:
        """Read from another published state from now on (a reader's, which is replaced whole)."""
        self._published = published

    def refuse_writes(self, message: str) -> None:
        self._writer = Refusal(message)

    def close(self, message: str) -> None:
        """Every later use raises ClosedError, whoever else has the directory open."""
        self._published = closed_door(message)
        self._writer = Refusal(message, ClosedError)


def after_prefix(prefix: bytes) -> bytes | None:
    """The smallest key above every key with this prefix, or None if there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def _bounds(key: slice) -> tuple[bytes | None, bytes | None]:
    if key.step is not None:
        raise UsageError("a range of keys has no step")
    return key.start, key.stop
