"""`python -m tests.races --races 20 --seed 1`: two jobs publish into one repository at the same moment, again and again.

Exits with 1 where something was lost, doubled or refused; see tests/integration/rivals.py for what is held against what.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.integration.rivals import Campaign


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.races", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--races", type=int, default=20, help="how many races (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (default: %(default)s)")
    chosen = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="races-") as folder:
        report = Campaign(Path(folder), chosen.seed).run(chosen.races)
    sys.stdout.write("\n".join([*report.lines(), f"seconds                          {time.monotonic() - started:.0f}", ""]))
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
