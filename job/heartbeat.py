"""What is done beside the work of the main thread, at set intervals and between its forks."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from types import TracebackType


class OutsideForks:
    """Forks of this process wait for the end of a block with it, as blocks do for each other.

    A fork copies one thread. What another one holds just then, such as the lock of a stream, is held in the child for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        os.register_at_fork(before=self._wait, after_in_parent=self._go_on, after_in_child=self._begin_anew)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.release()

    def _wait(self) -> None:
        """A fork cannot be called off: what the handler of a signal raises here would leave it without the lock. It is dropped,
        as Python itself drops what is raised before a fork: the handler has noted the signal."""
        held = False
        while not held:
            with suppress(BaseException):
                held = self._lock.acquire()

    def _go_on(self) -> None:
        """Give the lock back as often as it was taken, which is twice where a signal came right after it was."""
        with suppress(RuntimeError):
            while True:
                self._lock.release()

    def _begin_anew(self) -> None:
        self._lock = threading.RLock()


@contextmanager
def beating(beat: Callable[[], object], seconds: float) -> Iterator[None]:
    """Call `beat` every so many seconds in a thread of its own while the block runs. What it logs has the fields bound here."""
    ended, outside_forks = threading.Event(), OutsideForks()

    def run() -> None:
        while not ended.wait(seconds):
            with outside_forks:
                beat()

    thread = threading.Thread(target=copy_context().run, args=(run,), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
