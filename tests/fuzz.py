"""`python -m tests.fuzz --cases 20000 --seed 1`: settings, templates, datasets and run folders that nobody would think of.

Exits with 1 where a case showed what it must not; see tests/fuzzing for what that is. `--replay` runs one such case again, in a
process of its own too, and shows what it said.
"""

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path

from hypothesis.errors import HypothesisWarning

from tests.fuzzing import case as cases
from tests.fuzzing.campaign import AREAS, Campaign


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--cases", type=int, default=20_000, help="how many, over all areas (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (default: %(default)s)")
    parser.add_argument("--areas", nargs="+", choices=list(AREAS), default=list(AREAS), help="default: all")
    parser.add_argument("--jobs", type=int, default=2, help="areas at the same time (default: %(default)s)")
    parser.add_argument("--replay", metavar="CASE", help="run this case again instead, as a violation shows it")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", HypothesisWarning)  # of long reprs
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        campaign = Campaign(Path(folder), chosen.seed)
        if chosen.replay:
            return _replay(campaign, chosen.replay)
        report = campaign.run(chosen.cases, chosen.areas, chosen.jobs)
    sys.stdout.write("\n".join([*report.lines(), f"seconds {time.monotonic() - started:.0f}", ""]))
    return 1 if report.found else 0


def _replay(campaign: Campaign, text: str) -> int:
    case: cases.Case = eval(text, vars(cases))  # a text that this program printed
    found = []
    with campaign.worker("replay") as worker:
        for run in (worker.run, worker.run_process):
            outcome = run(case)
            wrong = campaign.judged(case, outcome)
            sys.stdout.write(f"{run.__name__}: {outcome.code}\n{outcome.out}{outcome.err}{wrong}\n")
            found += wrong
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
