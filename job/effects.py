"""What a run does to the world, replaceable by tests, and its account of what it did."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import structlog

from job import hub
from job.engine import choose_backend
from job.plan import ChooseBackend
from job.protocols import Hub, InterruptingStop, Stop
from job.run_lock import RunLock
from job.settings import HubSettings
from job.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class Effects:
    """What a run does to the world, replaceable by tests. image: what it runs in, see job.image."""

    stop: InterruptingStop
    choose_backend: ChooseBackend = choose_backend
    connect: Callable[[HubSettings, Stop], Hub] = hub.connect
    lock: Callable[[Path], RunLock] = RunLock
    bind_log: Callable[..., object] = structlog.contextvars.bind_contextvars
    bar_on: TextIO | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    image: Mapping[str, str] | None = None


class Account(Stopwatch):
    """What this process did: rows it generated and has on disk, and seconds by phase."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._started = clock()
        self.generated = 0

    def elapsed(self) -> float:
        """Seconds since it was opened."""
        return self._clock() - self._started

    def add_parts(self, name: str, parts: Mapping[str, float]) -> None:
        """Where the seconds of a phase went."""
        self.seconds |= {f"{name}.{part}": seconds for part, seconds in parts.items()}
