"""`python -m tests.integration.ledger_job`: `python -m job` with an engine that writes what it does to the file LEDGER."""

import os
import sys
from pathlib import Path

from job.shutdown import StopSignal, ignore_signals, listen


def _run() -> int:
    stop = StopSignal()
    listen(stop)
    from job.engine.lifeline import hold_in_forks
    from job.main import main
    from tests.integration.ledger import with_ledger

    hold_in_forks()
    code = main(os.environ, stop, choose_backend=with_ledger(Path(os.environ["LEDGER"])))
    ignore_signals()
    return code


if __name__ == "__main__":
    sys.exit(_run())
