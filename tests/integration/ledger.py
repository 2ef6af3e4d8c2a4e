"""An engine that keeps a ledger of its work; `python -m tests.integration.ledger_job` is the job with it.

The job's own log does not say which rows a killed process had finished. This one writes each row's request that it is fed and
each completion to the file LEDGER, at once, with the time: a SIGKILL loses none of it. All else is the job as it is.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from job.plan import ChooseBackend
from job.protocols import Engine
from job.records import Completion, Request
from tests.wrapped import WrappedEngine, wrapping


class LedgerEngine(WrappedEngine):
    """An engine, and a line in the ledger before each step of it is handed on."""

    def __init__(self, engine: Engine, ledger: Path) -> None:
        super().__init__(engine)
        self._file = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        os.close(self._file)

    def feed(self, request: Request) -> None:
        self._note("fed", request.position, request.sample)
        super().feed(request)

    def harvest(self) -> Sequence[Completion]:
        completions = super().harvest()
        for completion in completions:
            self._note("done", completion.position, completion.sample)
        return completions

    def _note(self, what: str, position: int, sample: int) -> None:
        if position >= 0:  # else it is the canary's
            os.write(self._file, f"{what} {position} {sample} {time.monotonic()}\n".encode())


def with_ledger(ledger: Path) -> ChooseBackend:
    """The backend that the settings name, with a ledger."""
    return wrapping(lambda engine: LedgerEngine(engine, ledger))
