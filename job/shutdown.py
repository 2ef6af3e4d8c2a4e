"""SIGTERM and SIGINT become a flag that the feed loop reads; a second signal, half a second later, ends the process at once.

Where nothing reads the flag a signal interrupts instead. What can be made again in seconds is left at once; what is worth
finishing, rows in flight and the writing of results, is left when the grace is over. Then too what was left at once and has
not ended yet, such as a wait for the threads of a download.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal

from job.errors import StoppedError
from job.protocols import InterruptingStop

GRACE_SECONDS = 20.0  # until the settings are read
# From the first signal on an alarm rings this often, to look at the clock. Until it rings, another signal is the same one:
# `timeout` sends it to its child and then to the process group.
_ALARM_SECONDS = 0.5
_INIT_PID = 1
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal came in a block that is to be left at once, or the grace ended in one that is to be left then."""


class StopSignal:
    """Whether to stop, and until when rows in flight may still finish."""

    def __init__(self, grace_seconds: float = GRACE_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self.grace_seconds = grace_seconds
        self._clock = clock
        self._requested_at = float("inf")
        self._interrupts: Literal["never", "at once", "after the grace"] = "never"
        self.signal: str | None = None

    @property
    def grace_is_over(self) -> bool:
        return self._clock() >= self._requested_at + self.grace_seconds

    def request(self, name: str) -> None:
        """A signal came. Raises: Interrupted in a block that is to be left now."""
        self.signal = name
        self._requested_at = self._clock()
        if self._interrupts == "at once":
            self._interrupts = "after the grace"
            raise Interrupted
        self.ring()

    def ring(self) -> None:
        """Look at the clock. Raises: Interrupted in a block that is to be left when the grace is over, if it is."""
        if self._interrupts == "after the grace" and self.grace_is_over:
            raise Interrupted

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """A signal that comes in this block, or came before it, raises Interrupted there; the end of the grace once more."""
        if self.signal:
            raise Interrupted
        self._interrupts = "at once"
        try:
            yield
        finally:
            self._interrupts = "never"

    @contextmanager
    def interrupting_after_grace(self) -> Iterator[None]:
        """The end of the grace in this block, or before it, raises Interrupted there."""
        self._interrupts = "after the grace"
        try:
            if self.grace_is_over:
                raise Interrupted
            yield
        finally:
            self._interrupts = "never"


def listen(stop: StopSignal) -> Mapping[signal.Signals, Any]:
    """Turn SIGTERM and SIGINT into `stop.request()`, and from then on look at the clock with `stop.ring()`.

    Returns: the handlers that were there before.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        # No logging here: the signal may have come in the middle of a log line.
        if not stop.signal:
            signal.setitimer(signal.ITIMER_REAL, _ALARM_SECONDS, _ALARM_SECONDS)
            stop.request(signal.Signals(number).name)

    def ring(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, _end_init if os.getpid() == _INIT_PID else signal.SIG_DFL)
        stop.ring()

    handlers: dict[signal.Signals, Any] = {signal.SIGALRM: ring} | dict.fromkeys(_SIGNALS, handle)
    return {number: signal.signal(number, handler) for number, handler in handlers.items()}


@contextmanager
def listening(stop: StopSignal) -> Iterator[None]:
    """`listen` while the block runs."""
    previous = listen(stop)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def breaking_off(stop: InterruptingStop, stopped: Callable[[], StoppedError]) -> Iterator[None]:
    """Leave the block as soon as a signal comes: what it does is made again in seconds, or goes on where it was."""
    try:
        with stop.interrupting():
            yield
    except Interrupted:
        raise stopped() from None
    except Exception:
        if not stop.signal:
            raise
        raise stopped() from None  # a library that was broken off may say so in an error of its own


def ignore_signals() -> None:
    """Let no signal change how the process ends from here on: the interpreter takes some tenths of a second to do so."""
    signal.setitimer(signal.ITIMER_REAL, 0)  # first: the alarm would listen again
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _end_init(number: int, frame: FrameType | None) -> None:
    """The kernel keeps default actions away from process 1, as a container's first one is: end as they would be reported."""
    os._exit(128 + number)
