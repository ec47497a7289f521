"""Background: the only threads. One flushes, one compacts; or none, and the writing call does the work itself."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from ..errors import ClosedError
from .storage.filesystem import lower_thread_priority
from .upkeep import Stopped, Upkeep

_RETRY_SECONDS = 0.5


class Inline:
    """No threads: `wake` does everything that is due before it returns, always in the same order."""

    def __init__(self, upkeep: Upkeep) -> None:
        self._upkeep = upkeep

    def start(self) -> None:
        """Nothing to start."""

    def wake(self) -> None:
        upkeep = self._upkeep
        if upkeep.working:
            return  # In a signal handler or finalizer: what it has left to do is done by what it came in the middle of.
        while upkeep.flush_next() or upkeep.compact_next():
            pass

    def notify(self) -> None:
        """Nobody waits."""

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Do what is due; then nothing is left to wait for. UsageError in the middle of a unit of work, which would have to go on first."""
        self._upkeep.refuse_reentry()
        self.wake()

    def wait_idle(self) -> None:
        self._upkeep.refuse_reentry()
        self.wake()

    @property
    def is_current_thread(self) -> bool:
        return False

    def stop_and_then(self, call: Callable[[], None]) -> None:
        self.stop()
        call()

    def stop(self) -> None:
        self._upkeep.stopping = True


class Background:
    """A thread for flushes and one for compactions, at low priority. Flushes have their own, so that none queues behind a long compaction.

    Their errors stay in `upkeep.error`. `collect` removes obsolete files and returns how many must wait.
    """

    def __init__(self, upkeep: Upkeep, collect: Callable[[], int]) -> None:
        self._upkeep = upkeep
        self._collect = collect
        self._changed = threading.Condition()
        self._working = 0
        self._last: deque[Callable[[], None]] = deque()
        self._threads = [
            threading.Thread(target=self._run, args=(upkeep.flush_next, lambda: bool(upkeep.sealed())), name="lsmsql flush", daemon=True),
            threading.Thread(target=self._run, args=(upkeep.compact_next, upkeep.compaction_due), name="lsmsql compaction", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Tell the threads, and those who wait, that something may have changed."""
        with self._changed:
            self._changed.notify_all()

    def notify(self) -> None:
        """Tell those who wait that upkeep has changed something."""
        self.wake()

    def _run(self, work: Callable[[], bool], due: Callable[[], bool]) -> None:
        lower_thread_priority()
        upkeep = self._upkeep
        last: Callable[[], None] | None = None
        while not upkeep.stopping:
            try:
                self._work_or_wait(work, due)
            except Stopped:
                pass
            except BaseException as error:  # Kept, and the thread goes on: writers wait for it, and must learn why in vain.
                if upkeep.error is None:
                    upkeep.error = error
                self.wake()
        with suppress(IndexError):  # Nothing is asked for, or the other thread was quicker.
            last = self._last.popleft()
        if last is not None:
            last()

    def _work_or_wait(self, work: Callable[[], bool], due: Callable[[], bool]) -> None:
        upkeep = self._upkeep
        waiting = self._collect()
        with self._changed:
            if upkeep.stopping:
                return
            if upkeep.error is not None or not due():
                # With a timeout only while a file waits for its last reader: finalizers must not notify, since they may run anywhere.
                self._changed.wait(_RETRY_SECONDS if waiting else None)
                return
            self._working += 1
        try:
            work()
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that upkeep brings about. Raises if upkeep has failed, or the database is closing, or this thread is itself
        in the middle of something that the threads may have to wait for."""
        upkeep = self._upkeep
        with self._changed:
            while not condition():
                upkeep.check()
                upkeep.refuse_reentry()
                if upkeep.stopping:
                    raise ClosedError("the database is closing")
                self._changed.notify_all()
                # With a timeout, since a signal handler that waited, too, may have come behind the condition and taken the notification.
                self._changed.wait(_RETRY_SECONDS)
        upkeep.check()

    def wait_idle(self) -> None:
        upkeep = self._upkeep
        self.wait_until(lambda: not self._working and not upkeep.sealed() and not upkeep.compaction_due())

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller is one of these threads: in a finalizer, which may run anywhere."""
        return threading.current_thread() in self._threads

    def stop_and_then(self, call: Callable[[], None]) -> None:
        """Tell the threads to end, and the first that does to call. Returns at once."""
        self._last.append(call)
        self._upkeep.stopping = True
        self.wake()

    def stop(self) -> None:
        """End the threads. What they were doing is given up; nothing durable depends on it."""
        self._upkeep.stopping = True
        self.wake()
        for thread in self._threads:
            if thread is not threading.current_thread() and thread.is_alive():
                thread.join()
