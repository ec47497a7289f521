"""The judge of crash images: opens each one and holds what it finds against the states of the life that was cut short."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from lsmsql import Options
from tests.proof.fault_filesystem import FaultFileSystem, Operation
from tests.proof.workload import Life, let_go, open_database, seen

LONG = os.environ.get("LSMSQL_LONG") == "1"

Fingerprint = frozenset[tuple[str, bytes]]


class Judge:
    """images: judged; opened: distinct ones of them; visible: of each state of the life, what a reader sees.

    An image must open, show one of the states from `life.durable` to the newest, and take further writes that last (tried for one in `further`
    distinct images). One distinct image in `deep` is crashed again at each operation of its recovery. At one crash point in `kill` only the
    process dies as well.
    """

    def __init__(
        self, life: Life, *, limit: int = 24, deep: int = 0, deep_limit: int = 4, further: int = 16, zeros: bool = False, kill: int = 0
    ) -> None:
        self.life = life
        self.limit = limit
        self.deep = deep
        self.deep_limit = deep_limit
        self.further = further
        self.zeros = zeros
        self.killing = kill
        self.images = self.opened = self.deep_images = self.deep_points = self.points = 0
        self.further_images = self.killed_images = 0
        self._visible: list[Any] = []
        self._found: dict[Fingerprint, int] = {}

    def visible(self) -> list[Any]:
        states = self.life.states
        while len(self._visible) < len(states):
            self._visible.append(states[len(self._visible)].visible())
        return self._visible

    def watch(self, fs: FaultFileSystem) -> None:
        """Judge every crash point of what happens on `fs` from now on."""
        fs.watch = lambda operation: self.crash(fs, str(operation))

    def crash(self, fs: FaultFileSystem, where: str) -> None:
        """Judge what a power loss now would leave."""
        self.points += 1
        if self.killing and self.points % self.killing == 0:
            self.kill(fs.copy(), where)
        for image in fs.images(limit=self.limit, seed=self.points, zeros=self.zeros):
            self.judge(image, f"{where} ({self.life.doing})")

    def judge(self, image: FaultFileSystem, where: str) -> None:
        self.images += 1
        fingerprint = frozenset(image.files().items())
        found = self._found.get(fingerprint)
        if found is None:
            self.opened += 1
            number = self.opened
            again = image.copy()
            again.description = image.description
            if number % self.further == 0:
                found = self._found[fingerprint] = self._go_on(image, f"{where}: power loss, {image.description}")
            else:
                found = self._look(image, f"{where}: power loss, {image.description}")
            if self.deep and number % self.deep == 0:
                self._recover_deep(again, where, found)
        if not self.life.durable <= found < len(self.life.states):
            raise AssertionError(
                f"{where}: power loss, {image.description}: recovered state {found}, "
                f"but {self.life.durable} was durable and {len(self.life.states) - 1} the newest"
            )

    def _look(self, image: FaultFileSystem, said: str) -> int:
        """The number of the state found in an image; distinct images are opened once."""
        fingerprint = frozenset(image.files().items())
        found = self._found.get(fingerprint)
        if found is None:
            engine = self._opened(image, said)
            try:
                found = self._found[fingerprint] = self._number(engine, said)
            finally:
                let_go(engine)
        return found

    def _go_on(self, disk: FaultFileSystem, said: str) -> int:
        """The number of the state found on a disk, after a further commit and a power loss: what was shown and what was committed must last."""
        engine = self._opened(disk, said)
        try:
            found = self._number(engine, said)
            engine.tree("further").put(b"key", b"value")
            if self.life.options.durability != "full":
                engine.flush()
            for image in [*disk.images(limit=self.deep_limit), *disk.images(limit=2)]:
                self.further_images += 1
                after = f"{said}; after the recovery and a commit: power loss, {image.description}"
                again = self._opened(image, after)
                try:
                    assert "further" in again.tree_names() and again.tree("further").get(b"key") == b"value", f"{after}: that commit is lost"
                    again.drop_tree("further")
                    now = self._number(again, after)
                    assert now == found, f"{after}: state {now} after {found} was shown"
                finally:
                    let_go(again)
        finally:
            let_go(engine)
        return found

    def _opened(self, image: FaultFileSystem, said: str) -> Any:
        try:
            return open_database(image, self.life.options, self.life.key)
        except Exception as error:
            raise AssertionError(f"{said}: the database does not open: {error!r}") from error

    def _number(self, engine: Any, said: str) -> int:
        try:
            now = seen(engine)
        except Exception as error:
            raise AssertionError(f"{said}: the database cannot be read: {error!r}") from error
        visible = self.visible()
        for number in range(len(visible) - 1, -1, -1):
            if visible[number] == now:
                return number
        raise AssertionError(f"{said}: recovered what never was: {now}\nnewest: {visible[-1]}\ndurable: {visible[self.life.durable]}")

    def _recover_deep(self, image: FaultFileSystem, where: str, expected: int) -> None:
        """Crash again at every operation of the recovery. Once it has answered, its answer stands."""
        durable = self.life.durable

        def crash(operation: Operation) -> None:
            self.deep_points += 1
            for second in image.images(limit=self.deep_limit, seed=self.deep_points):
                said = f"{where}: power loss, {image.description}; then at {operation}: power loss, {second.description}"
                self.deep_images += 1
                found = self._look(second, said)
                assert durable <= found < len(self.life.states), f"{said}: recovered state {found}, but {durable} was durable"
                assert not answered or found == expected, f"{said}: recovered state {found} after {expected} had been read"

        answered = False
        image.watch = crash
        engine = self._opened(image, where)
        answered = True
        self._number(engine, where)
        engine.close()
        image.watch = None

    def kill(self, disk: FaultFileSystem, where: str) -> None:
        """Judge what is left when the process is killed and the machine is not: the page cache is the disk. What the next process has shown,
        and what it has committed, a power loss behind it must leave. disk: used up."""
        said = f"{where} ({self.life.doing}): killed"

        def crash(operation: Operation) -> None:
            for image in disk.images(limit=3, seed=operation.index):
                self.killed_images += 1
                during = f"{said}; power loss in the recovery at {operation}: {image.description}"
                found = self._look(image, during)
                assert self.life.durable <= found, f"{during}: recovered state {found}, but {self.life.durable} was durable"

        watched = disk.copy()
        disk.watch = crash
        let_go(self._opened(disk, said))
        found = self._go_on(watched, said)
        assert found >= self.life.acknowledged or self.life.options.durability == "off", f"{said}: state {found} of {self.life.acknowledged}"

    def __str__(self) -> str:
        return (
            f"{self.points} crash points, {self.images} images ({self.opened} distinct); "
            f"in recoveries {self.deep_points} crash points, {self.deep_images} images; "
            f"{self.killed_images} images in recoveries of killed processes; {self.further_images} images behind recoveries and further commits"
        )


def watched(options: Options, live: Callable[[Life], None], key: bytes | None = None, **arguments: Any) -> tuple[Judge, FaultFileSystem]:
    """Live a life and judge every crash point of it."""
    fs = FaultFileSystem()
    life = Life(fs, options, key)
    judge = Judge(life, **arguments)
    judge.watch(fs)
    live(life)
    fs.watch = None
    judge.crash(fs, "the end")
    return judge, fs
