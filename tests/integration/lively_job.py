"""`python -m tests.integration.lively_job`: `python -m job`, where a holder beats, and is taken for dead, five times as soon.

How long that takes otherwise is what tests/unit/test_run_lock.py shows.
"""

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from job.__main__ import run

FASTER = 5


def _effects() -> Mapping[str, Any]:
    from job.run_lock import BEAT_SECONDS, SILENCE_SECONDS, RunLock

    return {"lock": partial(RunLock, beat_seconds=BEAT_SECONDS / FASTER, silence_seconds=SILENCE_SECONDS / FASTER)}


if __name__ == "__main__":
    sys.exit(run(_effects))
