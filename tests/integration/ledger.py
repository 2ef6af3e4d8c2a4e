"""An engine that keeps a ledger of its work; `python -m tests.integration.ledger_job` is the job with it.

The job's own log does not say which rows a killed process had finished. This one writes each row's request that it is fed and
each completion to the file LEDGER, at once, with the time: a SIGKILL loses none of it. All else is the job as it is.
"""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from job.engine import choose_backend
from job.plan import ChooseBackend
from job.protocols import Backend, Engine, Tokenizer
from job.records import Completion, Request


class LedgerEngine:
    """An engine, and a line in the ledger before each step of it is handed on."""

    def __init__(self, engine: Engine, ledger: Path) -> None:
        self._engine = engine
        self._file = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.window = engine.window
        self.facts = engine.facts
        self.start_seconds = engine.start_seconds

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
        if position >= 0:  # else it is the canary's
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

    def open(self, requests: int) -> LedgerEngine:
        return LedgerEngine(self._backend.open(requests), self._ledger)


def with_ledger(ledger: Path) -> ChooseBackend:
    """The backend that the settings name, with a ledger."""
    return lambda settings, model, adapter: LedgerBackend(choose_backend(settings, model, adapter), ledger)
