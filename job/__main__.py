"""`python -m job`. Listens to signals before anything slow is imported: one that comes early must not be lost."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from job.process import as_process
from job.shutdown import StopSignal


def run(effects: Callable[[], Mapping[str, Any]] = dict) -> int:
    """The job, as this process. effects: makes others than the usual ones, see job.effects.Effects. Returns: the exit code."""

    def answer(stop: StopSignal) -> int:
        from job.engine.lifeline import hold_in_forks
        from job.main import main

        hold_in_forks()
        return main(os.environ, stop, **effects())

    return as_process(answer)


if __name__ == "__main__":
    sys.exit(run())
