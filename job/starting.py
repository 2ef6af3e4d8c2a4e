"""That the engine is starting, which takes minutes for a large model: a line on a terminal, events elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import structlog

from job.heartbeat import beating
from job.terminal import StatusLine, making_way

SECOND = 1.0

log = structlog.get_logger()


class Starting:
    """What the start of an engine is at, and for how long it has been starting."""

    def __init__(
        self,
        phase: Callable[[], str],
        seconds: float,
        line: StatusLine | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """phase: the one of now, in a word; seconds: between two events; line: takes the place of events."""
        self._phase = phase
        self._seconds = max(seconds, SECOND)
        self._line = line
        self._clock = clock
        self._began = self._said = clock()

    def tick(self) -> None:
        """Say it, where it is time to. Called about once a second."""
        now = self._clock()
        if self._line:
            self._line.show(f"starting the engine: {self._phase()}, {now - self._began:.0f} s")
        elif now - self._said >= self._seconds:
            self._said = now
            log.info("engine_start_progress", phase=self._phase(), seconds=round(now - self._began, 1))


@contextmanager
def told(phase: Callable[[], str], seconds: float, terminal: TextIO | None, clock: Callable[[], float]) -> Iterator[None]:
    """Say it while the block runs. terminal: None where events are to be logged instead, `seconds` apart."""
    line = StatusLine(terminal) if terminal else None
    starting = Starting(phase, seconds, line, clock)
    with making_way(line.clear if line else lambda: None), beating(starting.tick, SECOND):
        yield
