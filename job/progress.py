"""How far the run is: a bar on a terminal, `progress` events at a set interval otherwise."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

import structlog
from tqdm import tqdm

from job.records import ResultRow

log = structlog.get_logger()


class Progress:
    """Counts finished rows."""

    def __init__(
        self, rows: int, done: int, seconds: float, bar_on: TextIO | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """done: how many of `rows` are in the journal from before; seconds: between two events, at least."""
        self._rows, self._earlier = rows, done
        self._seconds = seconds
        self._clock = clock
        self._started = self._reported = clock()
        self._bar = tqdm(total=rows, initial=done, unit="row", file=bar_on, dynamic_ncols=True) if bar_on else None
        self.finished = 0
        self.tokens = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, row: ResultRow, safe: int) -> None:
        """Count a row, and report where it is time to. safe: how many of the rows that were added are on disk."""
        self.finished += 1
        self.tokens += sum(completion.tokens for completion in row.completions)
        if self._bar is not None:
            self._bar.update()
            self._bar.set_postfix_str(f"{self._tokens_per_second():.0f} tok/s", refresh=False)
        elif self._clock() - self._reported >= self._seconds:
            self._reported = self._clock()
            log.info("progress", **self.event(safe))

    def event(self, safe: int) -> dict[str, int | float | None]:
        """Rows, tokens, tokens per second, and the estimated seconds to the end, None before there is a row to go by."""
        left = self._rows - self._earlier - self.finished
        rows_per_second = self.finished / max(self._clock() - self._started, 1e-9)
        return {
            "rows_done": self._earlier + self.finished,
            "rows_safe": self._earlier + safe,
            "rows": self._rows,
            "tokens": self.tokens,
            "tokens_per_second": round(self._tokens_per_second(), 1),
            "eta_seconds": round(left / rows_per_second, 1) if rows_per_second else None,
        }

    def _tokens_per_second(self) -> float:
        return self.tokens / max(self._clock() - self._started, 1e-9)
