"""`python -m tests.integration.ledger_job`: `python -m job` with an engine that writes what it does to the file LEDGER."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from job.__main__ import run


def _effects() -> Mapping[str, Any]:
    from tests.integration.ledger import with_ledger

    return {"choose_backend": with_ledger(Path(os.environ["LEDGER"]))}


if __name__ == "__main__":
    sys.exit(run(_effects))
