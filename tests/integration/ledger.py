"""`python -m tests.integration.ledger`: the job with an echo engine that keeps a ledger of its work.

The job's own log does not say which rows a killed process had finished. This one writes each request that it is fed and each
completion to the file LEDGER, at once, with the time: a SIGKILL loses none of it. All else is the job as it is.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import structlog

from job import logs, pipeline
from job.engine import choose_backend
from job.errors import JobError
from job.protocols import Backend, Engine, ModelFiles, Tokenizer
from job.records import Completion, Request
from job.settings import Settings
from job.shutdown import StopSignal, listening


class LedgerEngine:
    """An engine, and a line in the ledger before each step of it is handed on."""

    def __init__(self, engine: Engine, ledger: Path) -> None:
        self._engine = engine
        self._file = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.window = engine.window
        self.facts = engine.facts

    def __enter__(self) -> Self:
        self._engine.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._engine.__exit__(*error)
        os.close(self._file)

    def feed(self, request: Request) -> None:
        self._note("fed", request.position, request.sample)
        self._engine.feed(request)

    def harvest(self) -> Sequence[Completion]:
        completions = self._engine.harvest()
        for completion in completions:
            self._note("done", completion.position, completion.sample)
        return completions

    def _note(self, what: str, position: int, sample: int) -> None:
        os.write(self._file, f"{what} {position} {sample} {time.monotonic()}\n".encode())


class LedgerBackend:
    """A backend whose engine keeps the ledger."""

    def __init__(self, backend: Backend, ledger: Path) -> None:
        self._backend = backend
        self._ledger = ledger
        self.facts: Mapping[str, object] = backend.facts

    def check(self) -> None:
        self._backend.check()

    def tokenizer(self) -> Tokenizer:
        return self._backend.tokenizer()

    def open(self) -> LedgerEngine:
        return LedgerEngine(self._backend.open(), self._ledger)


def main() -> int:
    settings, ledger = Settings.from_env(os.environ), Path(os.environ["LEDGER"])
    logs.configure("json", settings.run.log_level, os.environ)

    def with_ledger(chosen: Settings, model: ModelFiles, adapter: ModelFiles | None) -> Backend:
        return LedgerBackend(choose_backend(chosen, model, adapter), ledger)

    stop = StopSignal(settings.run.shutdown_grace_seconds)
    try:
        with listening(stop):
            pipeline.run(settings, pipeline.Effects(stop=stop, choose_backend=with_ledger))
    except JobError as error:
        structlog.get_logger("job").error("run_finished", exit_code=error.exit_code, message=str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
