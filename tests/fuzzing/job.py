"""`python -m tests.fuzzing.job`: `python -m job` that waits for nothing, as a Hub that is not there would be waited for."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from job.__main__ import run
from job.protocols import Hub, Stop
from job.run_lock import RunLock
from job.settings import HubSettings


class FakeTime:
    """A clock that nothing but sleeping moves."""

    def __init__(self) -> None:
        self._now = 0.0

    def sleep(self, seconds: float) -> None:
        self._now += seconds

    def clock(self) -> float:
        return self._now


def effects() -> Mapping[str, Any]:
    """The job's own effects, but that waiting for the Hub and for a holder on another machine takes no time."""
    time = FakeTime()

    def connect(settings: HubSettings, stop: Stop) -> Hub:
        from job import hub

        return hub.connect(settings, stop, time.sleep, time.clock)

    def lock(folder: Path) -> RunLock:
        return RunLock(folder, sleep=time.sleep, clock=time.clock)

    return {"connect": connect, "lock": lock}


if __name__ == "__main__":
    sys.exit(run(effects))
