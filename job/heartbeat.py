"""What is done beside the work of the main thread, at set intervals and between its forks."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from types import TracebackType


class OutsideForks:
    """Forks of this process wait for the end of a block with it, as blocks do for each other.

    A fork copies one thread. What another one holds just then, such as the lock of a stream, is held in the child for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        release = self._lock.release
        os.register_at_fork(before=self._lock.acquire, after_in_parent=release, after_in_child=release)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.release()


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
