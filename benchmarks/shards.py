"""Publication of a set of shards that share no folder: time and memory of the process that comes last, by the number of shards.

The same dataset is answered by N processes, one after the other, each `python -m job` with ENGINE=echo and with a folder and a
cache of its own, against the Hub of the tests on the loopback interface. Each puts its part on the branch where they meet; the
last one finds all parts there, publishes the whole in one commit that copies them on the server, and reads it back. What is
measured is that process; the Hub runs in this one. Then a shard runs again on a machine that has nothing.

Run it from the root of the project: `python -m benchmarks.shards --rows 10000000 --shards 10 100`. All files lie in a temporary
folder (in TMPDIR) and are gone at the end. Exit code 1 where peak memory is above the bound or differs between the numbers of
shards, or the Hub has other than one commit.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.publish import MAX_PEAK_MB, TOKEN
from benchmarks.scale import MEGABYTE, Run, environment, run_job, write_dataset
from tests.hub_server import HubServer

MAX_GROWTH = 1.5  # of the peak, from the smallest number of shards to the largest
HEADER = """\
| rows | shards | publication s | process s | peak MB | its peak without publishing MB | found again s | commits |
|---:|---:|---:|---:|---:|---:|---:|---:|"""


@dataclass(frozen=True, slots=True)
class Met:
    """One set: the process before the last one, the last one, which published, and one that came afterwards with nothing."""

    rows: int
    shards: int
    before: Run
    last: Run
    again: Run
    commits: int

    def line(self) -> str:
        seconds = [f"{self.last.last['seconds_by_phase']['publication']:.1f}", f"{self.last.seconds:.1f}"]
        peaks = [f"{run.peak_bytes / MEGABYTE:.0f}" for run in (self.last, self.before)]
        cells = [f"{self.rows:,}", str(self.shards), *seconds, *peaks, f"{self.again.seconds:.1f}", str(self.commits)]
        return f"| {' | '.join(cells)} |"


def measure(rows: int, shards: int, data: Path, folder: Path) -> Met:
    with HubServer() as hub:
        hub.add_user("ana", token=TOKEN)
        client = {name: value for name, value in hub.environment(TOKEN).items() if name != "HF_HOME"}

        def run(index: int) -> Run:
            machine = folder / "machine"
            environ = environment(folder, data, machine) | client | {"HUB_NAMESPACE": "ana"}
            ended = run_job(environ | {"SHARD_INDEX": str(index), "SHARD_COUNT": str(shards)}, folder / "job.log")
            shutil.rmtree(machine)
            return ended

        runs = [run(index) for index in range(shards)]
        again = run(0)
        commits = len([each for each in hub.repo("dataset", "ana/echo-model-results").history() if "Answers" in each.title])
    if (sum(each.last["generated_rows"] for each in runs), again.last["generated_rows"]) != (rows, 0):
        raise SystemExit(f"{shards} shards: other rows than there are: {runs[-1].last}, {again.last}")
    return Met(rows, shards, runs[-2], runs[-1], again, commits)


def kept(sets: Sequence[Met]) -> bool:
    peaks = [each.last.peak_bytes / MEGABYTE for each in sets]
    return max(peaks) <= MAX_PEAK_MB and max(peaks) <= MAX_GROWTH * min(peaks) and all(each.commits == 1 for each in sets)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the dataset (default: %(default)s)")
    parser.add_argument("--shards", type=int, nargs="+", default=[10, 100], help="numbers of shards, two at least each")
    chosen = parser.parse_args()
    print(HEADER)
    sets = []
    with tempfile.TemporaryDirectory(prefix="job-shards-") as name:
        folder = Path(name)
        write_dataset(folder / "instructions.jsonl", chosen.rows, fewest_words=2, most_words=8)
        for shards in chosen.shards:
            sets.append(measure(chosen.rows, shards, folder / "instructions.jsonl", folder))
            print(sets[-1].line(), flush=True)
    good = kept(sets)
    print(f"\npeak <= {MAX_PEAK_MB:.0f} MB and within x {MAX_GROWTH}, and one commit: {'kept' if good else 'MISSED'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
