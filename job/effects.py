"""What a run does to the world, replaceable by tests, and its account of what it did."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import structlog

from job import hub
from job.engine import choose_backend
from job.plan import ChooseBackend
from job.protocols import Hub, InterruptingStop, Stop
from job.run_lock import RunLock
from job.settings import HubSettings


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


@dataclass(slots=True)
class Account:
    """What this process did: rows it generated and has on disk, and seconds by phase."""

    clock: Callable[[], float]
    generated: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = self.clock()
        try:
            yield
        finally:
            self.seconds[name] = round(self.clock() - started, 3)

    def add_parts(self, name: str, parts: Mapping[str, float]) -> None:
        """Where the seconds of a phase went."""
        self.seconds |= {f"{name}.{part}": seconds for part, seconds in parts.items()}
