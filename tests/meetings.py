"""`python -m tests.meetings --rounds 50 --seed 1`: shards that share no folder meet on the Hub, killed at any moment.

Exits with 1 where a law was broken; see tests/integration/meetings.py for what is held against what.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.integration.meetings import Campaign


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.meetings", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=50, help="how many runs of several shards (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (default: %(default)s)")
    chosen = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="meetings-") as folder:
        report = Campaign(Path(folder), chosen.seed).run(chosen.rounds)
    sys.stdout.write("\n".join([*report.lines(), f"seconds                          {time.monotonic() - started:.0f}", ""]))
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
