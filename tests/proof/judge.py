"""The judge of crash images: opens each one and holds what it finds against the states of the life that was cut short."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from lsmsql import Options
from lsmsql.engine.storage.filesystem import FileSystem
from tests.proof.fault_filesystem import FaultFileSystem, Operation
from tests.proof.images import Image
from tests.proof.workload import Life, let_go, open_database, seen

LONG = os.environ.get("LSMSQL_LONG") == "1"

EVERY = 1 << 20  # A limit that no number of images reaches.


class Judge:
    """images: judged; opened: distinct ones of them; visible: of each state of the life, what a reader sees.

    An image must open, show one of the states from `life.durable` to the newest, and take further writes that last (tried for one in `further`
    distinct images). One distinct image in `deep` is crashed again at each operation of its recovery, and with `deep_everywhere` at least one of
    every crash point that has an image of its own. At one crash point in `kill` only the process dies as well.

    An image that was met before is not opened again: what is found in it is the same, and only held against the bounds of now.
    """

    def __init__(
        self,
        life: Life,
        *,
        limit: int = 24,
        deep: int = 0,
        deep_limit: int = 4,
        deep_everywhere: bool = False,
        further: int = 16,
        zeros: bool = False,
        kill: int = 0,
    ) -> None:
        self.life = life
        self.limit = limit
        self.deep = deep
        self.deep_limit = deep_limit
        self.deep_everywhere = deep_everywhere
        self.further = further
        self.zeros = zeros
        self.killing = kill
        self.images = self.opened = self.deep_recoveries = self.deep_images = self.deep_points = self.points = 0
        self.further_images = self.killed_images = 0
        self._visible: list[Any] = []
        self._found: dict[bytes, int] = {}  # By the digest of an image: the number of the state found in it.
        self._lowest: dict[bytes, int] = {}  # Of those whose recovery was crashed: the lowest state that a second power loss leaves of it.

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
        before, new = self.deep_recoveries, None
        said = f"{where} ({self.life.doing})"
        for image in fs.states(limit=self.limit, seed=self.points, zeros=self.zeros):
            if self.judge(image, said):
                new = image
        if self.deep_everywhere and new is not None and self.deep_recoveries == before:
            self._recover_deep(new, said)

    def judge(self, image: Image, where: str) -> bool:
        """Whether it was the first of its kind."""
        self.images += 1
        new = image.digest not in self._found
        if new:
            self.opened += 1
            said = f"{where}: power loss, {image.description}"
            if self.opened % self.further == 0:
                self._found[image.digest] = self._go_on(FaultFileSystem(image.files, image.directories), said)
            else:
                self._look(image, said)
            if self.deep and self.opened % self.deep == 0:
                self._recover_deep(image, where)
        found = self._found[image.digest]
        if not self.life.durable <= found < len(self.life.states):
            raise AssertionError(
                f"{where}: power loss, {image.description}: recovered state {found}, "
                f"but {self.life.durable} was durable and {len(self.life.states) - 1} the newest"
            )
        lowest = self._lowest.get(image.digest, found)
        assert self.life.durable <= lowest, f"{where}: power loss, {image.description}; another in the recovery leaves state {lowest}"
        return new

    def _look(self, image: Image, said: str) -> int:
        """The number of the state found in an image; distinct images are opened once."""
        found = self._found.get(image.digest)
        if found is None:
            engine = self._opened(image.in_memory(), said)
            try:
                found = self._found[image.digest] = self._number(engine, said)
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
            for image in disk.states(limit=self.deep_limit):
                self.further_images += 1
                after = f"{said}; after the recovery and a commit: power loss, {image.description}"
                again = self._opened(image.in_memory(), after)
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

    def _opened(self, disk: FileSystem, said: str) -> Any:
        try:
            return open_database(disk, self.life.options, self.life.key)
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

    def _recover_deep(self, image: Image, where: str) -> None:
        """Crash again at every operation of the recovery. Once it has answered, its answer stands."""
        self.deep_recoveries += 1
        durable, expected = self.life.durable, self._found[image.digest]
        first = f"{where}: power loss, {image.description}"
        lowest = expected

        def crash(operation: Operation) -> None:
            nonlocal lowest
            self.deep_points += 1
            for second in disk.states(limit=self.deep_limit, seed=self.deep_points):
                said = f"{first}; then at {operation}: power loss, {second.description}"
                self.deep_images += 1
                found = self._look(second, said)
                assert durable <= found < len(self.life.states), f"{said}: recovered state {found}, but {durable} was durable"
                assert not answered or found == expected, f"{said}: recovered state {found} after {expected} had been read"
                lowest = min(lowest, found)

        answered = False
        disk = FaultFileSystem(image.files, image.directories)
        disk.watch = crash
        engine = self._opened(disk, where)
        answered = True
        self._number(engine, where)
        engine.close()
        disk.watch = None
        self._lowest[image.digest] = lowest

    def kill(self, disk: FaultFileSystem, where: str) -> None:
        """Judge what is left when the process is killed and the machine is not: the page cache is the disk. What the next process has shown,
        and what it has committed, a power loss behind it must leave. disk: used up."""
        said = f"{where} ({self.life.doing}): killed"

        def crash(operation: Operation) -> None:
            for image in disk.states(limit=3, seed=operation.index):
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
            f"in {self.deep_recoveries} recoveries {self.deep_points} crash points, {self.deep_images} images; {len(self._found)} opened in all; "
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
