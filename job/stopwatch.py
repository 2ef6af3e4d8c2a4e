"""Where seconds go."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds by phase, to the millisecond; also of a phase that fails.

    current: the phase of now and when it began, by the clock; None between phases. Other threads may look.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = {}
        self.current: tuple[str, float] | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        around, started = self.current, self._clock()
        self.current = name, started
        try:
            yield
        finally:
            self.seconds[name] = round(self._clock() - started, 3)
            self.current = around

    def so_far(self) -> dict[str, float]:
        """Seconds by phase, with those of the phase of now."""
        current, seconds = self.current, dict(self.seconds)
        return seconds | ({current[0]: self._clock() - current[1]} if current else {})
