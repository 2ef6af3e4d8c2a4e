"""Publication of large results: time and memory of the process that uploads them and reads them back.

Each size is answered first, by `python -m job` with ENGINE=echo, and kept on this machine. Then the same command runs again
with HUB_NAMESPACE, against the Hub of the tests on the loopback interface: it has nothing to answer, and publishes. What is
measured is that process alone; the Hub runs in this one. A third run finds everything published. Rows are short (about 35
bytes of instruction), so that ten million of them fit on a disk. Times are those of one machine that does both sides, and say
nothing about a network.

Run it from the root of the project: `python -m benchmarks.publish --rows 100000 10000000`. Ten million rows take a quarter of
an hour and 25 GB of disk in TMPDIR. Exit code 1 where peak memory is above the bound, or the Hub has other than one commit.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scale import MEGABYTE, Run, environment, run_job, write_dataset
from tests.hub_server import HubServer

MAX_PEAK_MB = 500.0
TOKEN = "hf_benchmark"  # noqa: S105 (of the Hub of the tests)
HEADER = """\
| rows | parquet MB | publication s | process s | peak MB | rerun s | rerun peak MB | commits |
|---:|---:|---:|---:|---:|---:|---:|---:|"""


@dataclass(frozen=True, slots=True)
class Published:
    """One size: the process that published, and the same command again."""

    rows: int
    data_bytes: int
    first: Run
    again: Run
    commits: int

    @property
    def peak_megabytes(self) -> float:
        return self.first.peak_bytes / MEGABYTE

    def line(self) -> str:
        seconds = self.first.last["seconds_by_phase"]["publication"]
        megabytes = self.data_bytes / MEGABYTE
        published = [f"{self.rows:,}", f"{megabytes:.0f}", f"{seconds:.1f}", f"{self.first.seconds:.1f}"]
        again = [f"{self.again.seconds:.1f}", f"{self.again.peak_bytes / MEGABYTE:.0f}"]
        return f"| {' | '.join([*published, f'{self.peak_megabytes:.0f}', *again, str(self.commits)])} |"


def measure(rows: int, folder: Path) -> Published:
    data, output = folder / "instructions.jsonl", folder / "results"
    write_dataset(data, rows, fewest_words=2, most_words=8)
    environ = environment(folder, data, output)
    run_job(environ, folder / "answered.log")
    with HubServer() as hub:
        hub.add_user("ana", token=TOKEN)
        # The caches stay where the dataset was converted; the test's Hub brings its own address and token.
        client = {name: value for name, value in hub.environment(TOKEN).items() if name != "HF_HOME"}
        publishing = environ | client | {"HUB_NAMESPACE": "ana"}
        first = run_job(publishing, folder / "first.log")
        again = run_job(publishing, folder / "again.log")
        repository = hub.repo("dataset", "ana/echo-model-results")
        size = sum(file.size for path, file in repository.find("main").tree.items() if path.endswith(".parquet"))
        commits = len(repository.history()) - 1  # less the one that made it
    if (first.last["generated_rows"], again.last["generated_rows"], first.last["rows"]) != (0, 0, rows):
        raise SystemExit(f"{rows} rows: the job answered again, or other rows: {first.last}, {again.last}")
    return Published(rows, size, first, again, commits)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000], help="sizes of the dataset")
    print(HEADER)
    kept = True
    for rows in sorted(parser.parse_args().rows):
        with tempfile.TemporaryDirectory(prefix="job-publish-") as folder:
            found = measure(rows, Path(folder))
        print(found.line(), flush=True)
        kept &= found.peak_megabytes <= MAX_PEAK_MB and found.commits == 1
    print(f"\npeak <= {MAX_PEAK_MB:.0f} MB and one commit: {'kept' if kept else 'MISSED'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
