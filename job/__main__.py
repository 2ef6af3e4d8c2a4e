"""`python -m job`. Listens to signals before anything slow is imported: one that comes early must not be lost."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from job.shutdown import StopSignal, ignore_signals, listen


def run(effects: Callable[[], Mapping[str, Any]] = dict) -> int:
    """The job, as this process. effects: makes others than the usual ones, see job.pipeline.Effects. Returns: the exit code."""
    stop = StopSignal()
    listen(stop)
    from job.engine.lifeline import hold_in_forks
    from job.main import main

    hold_in_forks()
    code = main(os.environ, stop, **effects())
    ignore_signals()  # the last line is said: the exit code is to be the one that it names
    return code


if __name__ == "__main__":
    sys.exit(run())
