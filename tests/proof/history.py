"""A generated list of operations, and the visible history of running it: what every call returned or raised, as text."""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import lsmsql
from lsmsql import Options
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from tests.proof.workload import open_database

Operation = tuple[Any, ...]
LETTERS = (b"\x00", b"a", b"ab", b"b", b"\xff")
TREES = ("a", "b")


def key(dice: random.Random) -> bytes:
    return b"".join(dice.choices(LETTERS, k=dice.choice((0, 1, 1, 2, 2, 2, 3))))


def value(dice: random.Random) -> bytes:
    return dice.randbytes(dice.choice((0, 1, 5, 20, 20, 120)))


KINDS = (
    *["put"] * 8,
    *["delete"] * 4,
    *["batch"] * 3,
    *["scan"] * 3,
    *["snapshot", "read_snapshot"] * 2,
    *["get", "get_many", "prefix", "slice", "ingest", "release", "name", "unname", "drop", "flush", "wrong", "ingest_wrong"],
)


def generated(seed: int, count: int) -> list[Operation]:
    """Operations whose results do not depend on how the data is kept: reads of the past are of snapshots only."""
    dice = random.Random(seed)
    return [(kind, *arguments(kind, dice)) for kind in dice.choices(KINDS, k=count)]


def arguments(kind: str, dice: random.Random) -> tuple[Any, ...]:
    tree = dice.choice(TREES)
    bounds = dice.choice((None, key(dice))), dice.choice((None, key(dice)))
    reverse = dice.random() < 0.5
    match kind:
        case "put":
            return tree, key(dice), value(dice)
        case "batch":
            return ([(dice.choice(TREES), key(dice), dice.choice((None, value(dice)))) for _ in range(dice.randrange(12))],)
        case "get_many":
            return tree, [key(dice) for _ in range(8)]
        case "scan":
            return tree, *bounds, reverse, dice.choice((None, 0, 1, 3))
        case "prefix":
            return tree, key(dice), reverse
        case "slice":
            return tree, *bounds
        case "ingest":
            return tree, sorted({key(dice): value(dice) for _ in range(dice.randrange(10))}.items())
        case "read_snapshot":
            return tree, dice.randrange(8), reverse
        case "release":
            return (dice.randrange(8),)
        case "name" | "unname":
            return (dice.choice("xyz"),)
        case "wrong":
            return tree, dice.choice((b"k" * 70_000, "text", None))
    return tree, key(dice)


def documented(error: lsmsql.Error) -> str:
    """The class that a caller knows: an error may be of one below it."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "lsmsql.errors")


class Run:
    """One engine that lives through the operations; `after` is called behind each, and may not change what is visible."""

    def __init__(self, options: Options, secret: bytes | None, after: str = "") -> None:
        self.fs = MemoryFileSystem()
        self.options = options
        self.secret = secret
        self.after = after
        self.engine = open_database(self.fs, options, secret)
        self.snapshots: list[Any] = []
        for name in TREES:
            self.engine.tree(name)

    def history(self, operations: list[Operation]) -> list[str]:
        told = []
        for operation in operations:
            try:
                told.append(repr(getattr(self, "do_" + operation[0])(*operation[1:])))
            except lsmsql.Error as error:
                told.append(documented(error))
            self._after()
        told += [repr(list(self.engine.tree(name).scan(reverse=reverse))) for name in TREES for reverse in (False, True)]
        for snapshot in self.snapshots:
            snapshot.close()
        self.engine.close()
        return told

    def _after(self) -> None:
        if self.after == "flush":
            self.engine.flush()
        elif self.after == "compact":
            self.engine.compact()
        elif self.after == "reopen":
            self.engine.close()
            self.engine = open_database(self.fs, self.options, self.secret)

    def do_put(self, tree: str, key: bytes, value: bytes) -> int:
        self.engine.tree(tree).put(key, value)
        return int(self.engine.seqno)

    def do_delete(self, tree: str, key: bytes) -> int:
        self.engine.tree(tree).delete(key)
        return int(self.engine.seqno)

    def do_batch(self, items: list[tuple[str, bytes, bytes | None]]) -> Any:
        batch = self.engine.batch()
        for number, (name, key, value) in enumerate(items):
            if number == 9:
                batch.rollback(6)
            if value is None:
                batch.delete(self.engine.tree(name), key)
            else:
                batch.put(self.engine.tree(name), key, value)
        with self.engine.read_view() as view:
            through = [list(view.scan(self.engine.tree(name), batch=batch)) for name in TREES]
        return self.engine.commit(batch), through

    def do_get(self, tree: str, key: bytes) -> Any:
        return self.engine.tree(tree).get(key), self.engine.tree(tree).contains(key)

    def do_get_many(self, tree: str, keys: list[bytes]) -> Any:
        return self.engine.tree(tree).get_many(keys)

    def do_scan(self, tree: str, lower: bytes | None, upper: bytes | None, reverse: bool, limit: int | None) -> Any:
        return list(self.engine.tree(tree).scan(lower, upper, reverse=reverse, limit=limit))

    def do_prefix(self, tree: str, prefix: bytes, reverse: bool) -> Any:
        return list(self.engine.tree(tree).scan(prefix=prefix, reverse=reverse))

    def do_slice(self, tree: str, lower: bytes | None, upper: bytes | None) -> int:
        del self.engine.tree(tree)[lower:upper]
        return int(self.engine.seqno)

    def do_ingest(self, tree: str, rows: list[tuple[bytes, bytes]]) -> Any:
        return self.engine.tree(tree).ingest(rows)

    def do_ingest_wrong(self, tree: str, key: bytes) -> Any:
        return self.engine.tree(tree).ingest([(key + b"b", b""), (key + b"a", b"")])

    def do_snapshot(self, _tree: str, _key: bytes) -> Any:
        """Kept by name, so that it lives through reopening; eight at most."""
        label = f"kept {self.engine.seqno} {len(self.engine.snapshots())}"
        if len(self.snapshots) < 8 and label not in self.engine.snapshots():
            self.snapshots.append(self.engine.snapshot(label))
        return len(self.snapshots)

    def do_read_snapshot(self, tree: str, number: int, reverse: bool) -> Any:
        if number >= len(self.snapshots):
            return None
        return list(self.engine.tree(tree).scan(reverse=reverse, snapshot=self.snapshots[number].name))

    def do_release(self, number: int) -> Any:
        if number >= len(self.snapshots):
            return None
        snapshot = self.snapshots.pop(number)
        self.engine.release(snapshot.name)
        return snapshot.name

    def do_name(self, label: str) -> Any:
        return self.engine.snapshot(label).seqno

    def do_unname(self, label: str) -> Any:
        return self.engine.release(label)

    def do_drop(self, tree: str, key: bytes) -> Any:
        """Seldom: it makes for dull histories."""
        if key != LETTERS[0]:
            return None
        self.engine.drop_tree(tree)
        return self.engine.tree(tree).id

    def do_flush(self, _tree: str, _key: bytes) -> Any:
        return self.engine.flush()

    def do_wrong(self, tree: str, key: Any) -> Any:
        return self.engine.tree(tree).put(key, b"v")


def history(options: Options, secret: bytes | None, after: str, seed: int, count: int) -> list[str]:
    return Run(options, secret, after).history(generated(seed, count))


def main() -> None:
    """For runs in another process: options as text, seed and count on stdin; the kernels used and the history on stdout, as JSON."""
    from lsmsql.engine import kernel

    asked = json.load(sys.stdin)
    told = history(Options.from_text(asked["options"]), None, asked["after"], asked["seed"], asked["count"])
    json.dump({"compiled": kernel.COMPILED, "history": told}, sys.stdout)


if __name__ == "__main__":
    main()
