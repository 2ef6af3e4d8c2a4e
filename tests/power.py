"""`python -m tests.power --kills 100 --cuts 2000 --seed 1`: is what the log calls safe there after SIGKILL and power cuts?

Exits with 1 where a promise was broken; see tests/integration/promises.py and power_cuts.py for what is held against what.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.integration.power_cuts import PowerCuts
from tests.integration.promises import kill_after_promises
from tests.integration.system_calls import why_not


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.power", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs after a promise (default: %(default)s)")
    parser.add_argument("--cuts", type=int, default=2000, help="power cuts on the model of a disk (default: %(default)s)")
    parser.add_argument("--records", type=int, default=4, help="processes in a chain of power cuts (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=200, help="rows of a run whose power is cut (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (default: %(default)s)")
    chosen = parser.parse_args()
    started = time.monotonic()
    broken = 0
    with tempfile.TemporaryDirectory(prefix="power-") as folder:
        if chosen.kills:
            (Path(folder) / "kills").mkdir()
            killed = kill_after_promises(Path(folder) / "kills", tries=chosen.kills, seed=chosen.seed)
            broken += len(killed.violations)
            sys.stdout.write("\n".join([*killed.lines(), ""]))
        if chosen.cuts:
            if missing := why_not():
                sys.exit(f"power cuts need a record of system calls: {missing}")
            (Path(folder) / "cuts").mkdir()
            campaign = PowerCuts(Path(folder) / "cuts", rows=chosen.rows, seed=chosen.seed)
            cut = campaign.run(cuts=chosen.cuts, cuts_a_record=100, records=chosen.records)
            broken += len(cut.violations)
            sys.stdout.write("\n".join([*cut.lines(), ""]))
    sys.stdout.write(f"seconds                          {time.monotonic() - started:.0f}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
