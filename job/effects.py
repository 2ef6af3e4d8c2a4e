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
from job.progress import Progress
from job.protocols import Hub, InterruptingStop, Stop
from job.records import ResultRow
from job.run_lock import RunLock
from job.settings import HubSettings
from job.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class Effects:
    """What a run does to the world, replaceable by tests.

    image: what it runs in, see job.image; show: gets the account of the run at its beginning, to look at it meanwhile.
    """

    stop: InterruptingStop
    choose_backend: ChooseBackend = choose_backend
    connect: Callable[[HubSettings, Stop], Hub] = hub.connect
    lock: Callable[[Path], RunLock] = RunLock
    bind_log: Callable[..., object] = structlog.contextvars.bind_contextvars
    bar_on: TextIO | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    image: Mapping[str, str] | None = None
    show: Callable[["Account"], object] = lambda account: None


class Account(Stopwatch):
    """What this process did: rows it generated and has on disk, and seconds by phase. Other threads may look at it meanwhile.

    about: what names the run; rows: how many there are, None until that is known; found: those of them that earlier processes
    answered; answered, failed, prompt_tokens, completion_tokens: of the rows that this one finished; progress: of the rows that
    the engine answers, None before; engine_failed: whether that did not start, or died.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._started = clock()
        self.generated = 0
        self.about: Mapping[str, str] = {}
        self.rows: int | None = None
        self.found = self.answered = self.failed = self.prompt_tokens = self.completion_tokens = 0
        self.progress: Progress | None = None
        self.engine_failed = False

    def count(self, row: ResultRow) -> None:
        """A row is finished."""
        self.prompt_tokens += row.prompt_tokens
        self.completion_tokens += sum(completion.tokens for completion in row.completions)
        if row.answered:
            self.answered += 1
        else:
            self.failed += 1

    def elapsed(self) -> float:
        """Seconds since it was opened."""
        return self._clock() - self._started

    def add_parts(self, name: str, parts: Mapping[str, float]) -> None:
        """Where the seconds of a phase went."""
        self.seconds |= {f"{name}.{part}": seconds for part, seconds in parts.items()}
