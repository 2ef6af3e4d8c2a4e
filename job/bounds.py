"""Bounds on what a template may take: it is a program, and one that never ends or fills the memory is written in one line."""

import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AGAIN_SECONDS = 0.5  # the alarm rings again: a filter may have caught it


class OutOfTime(BaseException):
    """The time of a block is over."""


@contextmanager
def bounded(seconds: float, memory_bytes: int) -> Iterator[None]:
    """Give the block so much processor time, and so much memory beyond what the process has. For the main thread.

    The processor's time, so that a busy machine changes nothing. A single operation of Python's own is not interrupted.
    Raises: OutOfTime; MemoryError.
    """

    def ring(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    in_main_thread = threading.current_thread() is threading.main_thread()
    with _less_memory(memory_bytes):
        if not in_main_thread:  # where no signal arrives
            yield
            return
        before = signal.signal(signal.SIGPROF, ring)
        signal.setitimer(signal.ITIMER_PROF, seconds, _AGAIN_SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)


@contextmanager
def _less_memory(memory_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _size_pages() * resource.getpagesize() + memory_bytes
    lowest = min((each for each in (limit, soft, hard) if each != resource.RLIM_INFINITY), default=limit)
    resource.setrlimit(resource.RLIMIT_AS, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _size_pages() -> int:
    """The address space of this process, in pages. Called for each row of a dataset, so without what makes `open` slow."""
    number = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(number, 100).split()[0])
    finally:
        os.close(number)
