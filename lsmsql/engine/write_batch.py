"""WriteBatch: operations over many trees that are committed together or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Final, Literal, Protocol

from ..errors import UsageError
from .arguments import require_items, require_number, require_tree_of
from .kernel import Batch, Kind


class _Missing(Enum):
    MISSING = "missing"


MISSING: Final = _Missing.MISSING
"""What `WriteBatch.get` answers for a key that the batch says nothing of."""


class WritableTree(Protocol):
    """What a batch needs of a tree."""

    @property
    def id(self) -> int: ...

    @property
    def database(self) -> object: ...

    def require_writable(self) -> None: ...


class WriteBatch:
    """Made by `Database.batch()`; with `with` it is committed at a clean end. Later operations on a key replace earlier ones.

    operations: the kernel's batch, which reads can put before everything else. size: of the encoding, in bytes; `len()` and `mark()` count
    operations. One thread at a time.
    """

    __slots__ = ("_commit", "database", "operations")

    def __init__(self, database: object, commit: Callable[[WriteBatch], int]) -> None:
        self.database = database
        self._commit = commit
        self.operations = Batch()

    def put(self, tree: WritableTree, key: bytes, value: bytes) -> None:
        require_tree_of(self.database, tree)
        tree.require_writable()
        add_operation(self.operations, tree.id, Kind.VALUE, key, value)

    def delete(self, tree: WritableTree, key: bytes) -> None:
        require_tree_of(self.database, tree)
        tree.require_writable()
        add_operation(self.operations, tree.id, Kind.TOMBSTONE, key, b"")

    def put_many(self, tree: WritableTree, items: Iterable[tuple[bytes, bytes]]) -> int:
        """Put every (key, value). When the iterable or an item raises, what came before it stays. Returns how many there were."""
        require_tree_of(self.database, tree)
        tree.require_writable()
        require_items(items)
        return int(self.operations.put_many(tree.id, items))

    def get(self, tree: WritableTree, key: bytes) -> bytes | Literal[_Missing.MISSING] | None:
        """What the batch makes of a key: its value, None where it deletes it, MISSING where it says nothing."""
        require_tree_of(self.database, tree)
        found = self.operations.get(tree.id, key)
        if found is None:
            return MISSING
        return found[1] if found[0] == Kind.VALUE else None

    def mark(self) -> int:
        """A point to `rollback` to."""
        return int(self.operations.mark())

    def rollback(self, mark: int) -> None:
        """Forget every operation after the mark."""
        require_number("mark", mark)
        if not 0 <= mark <= len(self.operations):
            raise UsageError(f"the batch has {len(self.operations)} operations; it cannot go back to {mark}")
        self.operations.rollback(mark)

    def clear(self) -> None:
        self.operations.clear()

    @property
    def size(self) -> int:
        return int(self.operations.size)

    def __len__(self) -> int:
        return len(self.operations)

    def __enter__(self) -> WriteBatch:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None:
            self._commit(self)


def add_operation(batch: Batch, tree: int, kind: int, key: bytes, value: bytes) -> None:
    """Append an operation to a kernel batch. UsageError, with the number and the limit, where key, value or batch are impossible."""
    batch.add(tree, key, kind, value)
