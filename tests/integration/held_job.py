"""`python -m tests.integration.held_job`: `python -m job` that waits in the folder HOLD for files with certain names.

For `start` where its engine starts, and for `publish` where its results, which are all there, are published: to nowhere.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from job.__main__ import run
from job.protocols import Engine
from job.records import Published, Release

_POLL_SECONDS = 0.01


def _wait_for(name: str) -> None:
    while not (Path(os.environ["HOLD"]) / name).exists():
        time.sleep(_POLL_SECONDS)


def _started(engine: Engine) -> Engine:
    _wait_for("start")
    return engine


def _effects() -> Mapping[str, Any]:
    from tests.unit.builders import FakeHub
    from tests.wrapped import wrapping

    class HeldHub(FakeHub):
        def publish(self, repo_id: str, release: Release, rows_of: Callable[[str], int], verified: str | None) -> Published:
            _wait_for("publish")
            return super().publish(repo_id, release, rows_of, verified)

    return {"choose_backend": wrapping(_started), "connect": lambda settings, stop: HeldHub()}


if __name__ == "__main__":
    sys.exit(run(_effects))
