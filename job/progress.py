"""How far the run is: a bar on a terminal, `progress` events every few seconds otherwise."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

import structlog
from tqdm import tqdm

from job.records import ResultRow

EVENT_SECONDS = 10.0
log = structlog.get_logger()


class Progress:
    """Counts finished rows. `done` of `rows` were finished by earlier runs."""

    def __init__(self, rows: int, done: int, bar_on: TextIO | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rows, self._earlier = rows, done
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

    def add(self, row: ResultRow) -> None:
        """Count a row, and report where it is time to."""
        self.finished += 1
        self.tokens += sum(completion.tokens for completion in row.completions)
        if self._bar is not None:
            self._bar.update()
            self._bar.set_postfix_str(f"{self._tokens_per_second():.0f} tok/s", refresh=False)
        elif self._clock() - self._reported >= EVENT_SECONDS:
            self._reported = self._clock()
            log.info("progress", **self.event())

    def event(self) -> dict[str, int | float | None]:
        """Rows, tokens, tokens per second, and the estimated seconds to the end, None before there is a row to go by."""
        left = self._rows - self._earlier - self.finished
        rows_per_second = self.finished / max(self._clock() - self._started, 1e-9)
        return {
            "rows_done": self._earlier + self.finished,
            "rows": self._rows,
            "tokens": self.tokens,
            "tokens_per_second": round(self._tokens_per_second(), 1),
            "eta_seconds": round(left / rows_per_second, 1) if rows_per_second else None,
        }

    def _tokens_per_second(self) -> float:
        return self.tokens / max(self._clock() - self._started, 1e-9)
