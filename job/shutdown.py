"""SIGTERM and SIGINT become a flag that the feed loop reads; a second signal ends the process at once.

Where nothing reads the flag, while the model is loaded, the signal interrupts instead: nothing is lost there.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """A signal came in a block that is to be left at once."""


class StopSignal:
    """Whether to stop, and until when rows in flight may still finish."""

    def __init__(self, grace_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._deadline = float("inf")
        self._interrupts = False
        self.signal: str | None = None

    @property
    def grace_is_over(self) -> bool:
        return self._clock() >= self._deadline

    def request(self, name: str) -> None:
        self.signal = name
        self._deadline = self._clock() + self._grace_seconds
        if self._interrupts:
            self._interrupts = False
            raise Interrupted

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """A signal that comes in this block, or came before it, raises Interrupted there."""
        self._interrupts = True
        try:
            if self.signal:
                raise Interrupted
            yield
        finally:
            self._interrupts = False


@contextmanager
def listening(stop: StopSignal) -> Iterator[None]:
    """Turn SIGTERM and SIGINT into `stop.request()` while the block runs."""

    def handle(number: int, frame: FrameType | None) -> None:
        # No logging here: the signal may have come in the middle of a log line.
        for each in previous:
            signal.signal(each, signal.SIG_DFL)
        stop.request(signal.Signals(number).name)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
