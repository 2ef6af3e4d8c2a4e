"""The job, as `python -m job`, but each row's answer ends after the tokens that its row names: for models that know no end.

The dataset must be a local file of benchmarks.shape.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from benchmarks.shape import read_lengths
from job.__main__ import run
from job.engine import choose_backend
from job.protocols import Backend, Engine, ModelFiles
from job.records import Completion, Request
from job.settings import Settings


class CappedEngine:
    def __init__(self, engine: Engine, lengths: Sequence[int]) -> None:
        self._engine = engine
        self._lengths = lengths
        self.window = engine.window
        self.facts = engine.facts
        self.start_seconds = engine.start_seconds

    def __enter__(self) -> Self:
        self._engine.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._engine.__exit__(*error)

    def feed(self, request: Request) -> None:
        if request.position >= 0:  # no canary
            request = replace(request, max_tokens=self._lengths[request.position])
        self._engine.feed(request)

    def harvest(self) -> Sequence[Completion]:
        return self._engine.harvest()


@dataclass
class CappedBackend:
    backend: Backend
    lengths: Sequence[int]

    def __post_init__(self) -> None:
        self.facts = self.backend.facts
        self.check = self.backend.check
        self.tokenizer = self.backend.tokenizer

    def open(self, requests: int) -> CappedEngine:
        return CappedEngine(self.backend.open(requests), self.lengths)


def capped(settings: Settings, model: ModelFiles, adapter: ModelFiles | None) -> Any:
    return CappedBackend(choose_backend(settings, model, adapter), read_lengths(Path(settings.data.dataset_id)))


if __name__ == "__main__":
    os.environ.setdefault("LOG_FORMAT", "json")
    sys.exit(run(lambda: {"choose_backend": capped}))
