"""`python -m tests.integration.lively_job`: `python -m job`, where a holder beats, and is taken for dead, five times as soon.

How long that takes otherwise is what tests/unit/test_run_lock.py shows.
"""

import sys
from collections.abc import Mapping
from typing import Any

from job.__main__ import run

FASTER = 5


def _effects() -> Mapping[str, Any]:
    from job import run_lock

    run_lock.SILENCE_SECONDS /= FASTER
    (run_lock.RunLock.__init__.__kwdefaults__ or {})["beat_seconds"] = run_lock.BEAT_SECONDS / FASTER
    return {}


if __name__ == "__main__":
    sys.exit(run(_effects))
