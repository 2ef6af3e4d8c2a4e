"""The job, as `python -m job`, but each row's answer ends after the tokens that its row names: for models that know no end.

The dataset must be a local file of benchmarks.shape.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.shape import read_lengths
from job.__main__ import run
from job.protocols import Engine
from job.records import Request
from tests.wrapped import WrappedEngine, wrapping


class CappedEngine(WrappedEngine):
    def __init__(self, engine: Engine, lengths: Sequence[int]) -> None:
        super().__init__(engine)
        self._lengths = lengths

    def feed(self, request: Request) -> None:
        if request.position >= 0:  # no canary
            request = replace(request, max_tokens=self._lengths[request.position])
        super().feed(request)


if __name__ == "__main__":
    os.environ.setdefault("LOG_FORMAT", "json")
    lengths = read_lengths(Path(os.environ["DATASET_ID"]))
    sys.exit(run(lambda: {"choose_backend": wrapping(lambda engine: CappedEngine(engine, lengths))}))
