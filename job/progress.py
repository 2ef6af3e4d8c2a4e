"""How far the run is: a bar on a terminal, `progress` events at a set interval otherwise, also while no row finishes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TextIO

import structlog
from tqdm import tqdm

from job.heartbeat import beating
from job.records import Load, ResultRow
from job.terminal import making_way

_TICK_SECONDS = 1.0
_SHORTEST_TICK_SECONDS = 0.1

log = structlog.get_logger()


class Progress:
    """Counts finished rows. Other threads may look at it."""

    def __init__(
        self,
        rows: int,
        done: int,
        seconds: float,
        bar_on: TextIO | None,
        clock: Callable[[], float] = time.monotonic,
        *,
        safe: Callable[[], int] = lambda: 0,
        load: Callable[[], Load] = Load,
    ) -> None:
        """done: how many of `rows` are in the journal from before; seconds: between two events; safe: how many of the rows that
        were added are on disk; load: of the engine.
        """
        self._rows, self._earlier = rows, done
        self._seconds = seconds
        self._clock = clock
        self._safe, self._load = safe, load
        self._started = self._reported = clock()
        self._reporting = threading.Lock()
        self._bar = tqdm(total=rows, initial=done, unit="row", file=bar_on, dynamic_ncols=True) if bar_on else None
        self.finished = 0
        self.tokens = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._load = Load  # what the engine has now, nobody waits for any more
        if self._bar is not None:
            self._bar.close()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Go on saying it while the block runs, whatever the engine does."""
        clear = self._bar.clear if self._bar is not None else lambda: None
        seconds = min(max(self._seconds, _SHORTEST_TICK_SECONDS), _TICK_SECONDS)
        with making_way(clear), beating(self.tick, seconds):
            yield

    def add(self, row: ResultRow) -> None:
        """Count a row, and report where it is time to."""
        self.finished += 1
        self.tokens += sum(completion.tokens for completion in row.completions)
        if self._bar is not None:
            self._describe(refresh=False)
            self._bar.update()
        else:
            self._report_after(self._seconds)

    def tick(self) -> None:
        """Report where it is time to, though no row may have finished."""
        if self._bar is not None:
            self._describe(refresh=True)
        else:
            self._report_after(self._seconds or _TICK_SECONDS)

    def event(self) -> dict[str, int | float | None]:
        """Rows, tokens, tokens per second, requests that the engine has, and the estimated seconds to the end."""
        load = self.load
        return {
            "rows_done": self._earlier + self.finished,
            "rows_safe": self._earlier + self._safe(),
            "rows": self._rows,
            "running": load.running,
            "waiting": load.waiting,
            "tokens": self.tokens,
            "tokens_per_second": round(self._tokens_per_second(), 1),
            "eta_seconds": self.eta,
        }

    @property
    def eta(self) -> float | None:
        """Estimated seconds to the end, None before there is a row to go by."""
        left = self._rows - self._earlier - self.finished
        rows_per_second = self.finished / max(self._clock() - self._started, 1e-9)
        return round(left / rows_per_second, 1) if rows_per_second else None

    @property
    def load(self) -> Load:
        """The requests that the engine has; none at the end."""
        return self._load()

    @property
    def lag(self) -> int:
        """Finished rows that are not on disk yet."""
        safe = self._safe()  # first, so that it is never the larger one
        return self.finished - safe

    def _report_after(self, seconds: float) -> None:
        with self._reporting:
            now = self._clock()
            if now - self._reported >= seconds:
                self._reported = now
                log.info("progress", **self.event())

    def _describe(self, *, refresh: bool) -> None:
        if self._bar is not None:
            load = self.load
            text = f"{self._tokens_per_second():.0f} tok/s, {load.running} running, {load.waiting} waiting"
            self._bar.set_postfix_str(text, refresh=refresh)

    def _tokens_per_second(self) -> float:
        return self.tokens / max(self._clock() - self._started, 1e-9)
