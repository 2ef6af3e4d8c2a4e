"""Scale of everything around the engine: how time, memory and disk grow from ten thousand rows to a million.

Each size is a real process, `python -m job` with ENGINE=echo, on a dataset made here: reading, prompts, spool, feed loop,
journal, parquet, card. Then the same command runs again with nothing to do. Peak memory is the kernel's own count for the
process (ru_maxrss); the seconds by phase are what the job says in its last log line. CPU time a row leaves out what other work
on the machine does to the wall clock.

Run it from the root of the project: `python -m benchmarks.scale --rows 10000 100000 1000000`. All files lie in a temporary
folder (in TMPDIR) and are gone at the end. Exit code 1 where a bound below is missed.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MAX_MEMORY_GROWTH = 1.5  # peak of the largest size over the peak of the next smaller one
MIN_RATE_KEPT = 0.9  # rows per second of the whole job, the same way round
MAX_RERUN_SECONDS = 10.0
MEGABYTE = 10**6

HEADER = """\
| rows | seconds | rows/s | generation rows/s | CPU us/row | peak MB | journal MB | parquet MB | rerun s | rerun peak MB |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""


@dataclass(frozen=True, slots=True)
class Run:
    """A finished process: seconds by the wall clock, CPU seconds, peak resident bytes, and the fields of its last log line."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    last: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """One size: the job, the same command again, and bytes on disk."""

    rows: int
    first: Run
    again: Run
    journal_bytes: int
    parquet_bytes: int

    @property
    def rate(self) -> float:
        """Rows per second of the whole job, start-up included."""
        return self.rows / self.first.seconds

    def line(self) -> str:
        generation = self.rows / self.first.last["seconds_by_phase"]["generation"]
        megabytes = [f"{size / MEGABYTE:.0f}" for size in (self.first.peak_bytes, self.journal_bytes, self.parquet_bytes)]
        again = [f"{self.again.seconds:.1f}", f"{self.again.peak_bytes / MEGABYTE:.0f}"]
        rates = [f"{self.rate:.0f}", f"{generation:.0f}", f"{self.first.cpu_seconds / self.rows * 1e6:.0f}"]
        cells = [f"{self.rows:,}", f"{self.first.seconds:.1f}", *rates, *megabytes, *again]
        return f"| {' | '.join(cells)} |"


def write_dataset(path: Path, rows: int, fewest_words: int = 8, most_words: int = 60) -> None:
    """Instructions of 8 to 60 made-up words, 34 on average, about 250 bytes a row: the same file each time."""
    dice = random.Random(0)  # noqa: S311
    words = ["".join(dice.choices("aeiounrstlmdcp", k=dice.randint(2, 9))) for _ in range(5000)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            instruction = " ".join(dice.choices(words, k=dice.randint(fewest_words, most_words)))
            file.write(json.dumps({"instruction": instruction, "id": number}) + "\n")


def run_job(environ: Mapping[str, str], log: Path) -> Run:
    """The job as a process of its own, to its end."""
    started = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "job"], cwd=ROOT, env=environ, stdout=file)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    lines = log.read_text(encoding="utf-8").splitlines()
    if process.returncode:
        raise SystemExit(f"the job ended with {process.returncode}: {lines[-1] if lines else 'no log'}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, json.loads(lines[-1]))


def environment(folder: Path, data: Path, output: Path) -> dict[str, str]:
    """Everything that the job gets: the echo engine, and all files below `folder`."""
    return {
        "PATH": os.environ["PATH"],
        "HF_HOME": str(folder / "hf"),
        "TMPDIR": str(folder),
        "ENGINE": "echo",
        "MODEL_ID": "echo-model",
        "DATASET_ID": str(data),
        "OUTPUT_DIR": str(output),
        "LOG_FORMAT": "json",
    }


def measure(rows: int, folder: Path) -> Measured:
    data, output = folder / "instructions.jsonl", folder / "results"
    write_dataset(data, rows)
    environ = environment(folder, data, output)
    first = run_job(environ, folder / "first.log")
    again = run_job(environ, folder / "again.log")
    if (first.last["generated_rows"], again.last["generated_rows"], again.last["rows"]) != (rows, 0, rows):
        raise SystemExit(f"{rows} rows: the job answered other rows than it was given: {first.last}, {again.last}")
    return Measured(rows, first, again, _bytes(output, "journal.sqlite"), _bytes(output, "*.parquet"))


def verdict(measured: Sequence[Measured]) -> tuple[str, bool]:
    """The sentence that says which bounds are kept, and whether all are."""
    largest = measured[-1]
    checks = [(f"rerun {largest.again.seconds:.1f} s (< {MAX_RERUN_SECONDS:.0f})", largest.again.seconds < MAX_RERUN_SECONDS)]
    if len(measured) > 1:
        smaller = measured[-2]
        growth, kept = largest.first.peak_bytes / smaller.first.peak_bytes, largest.rate / smaller.rate
        checks = [
            (f"peak memory x {growth:.2f} (<= {MAX_MEMORY_GROWTH})", growth <= MAX_MEMORY_GROWTH),
            (f"rows/s x {kept:.2f} (>= {MIN_RATE_KEPT})", kept >= MIN_RATE_KEPT),
            *checks,
        ]
    shown = ", ".join(f"{text} {'kept' if good else 'MISSED'}" for text, good in checks)
    against = f" against {measured[-2].rows:,}" if len(measured) > 1 else ""
    return f"{largest.rows:,} rows{against}: {shown}", all(good for _, good in checks)


def _bytes(folder: Path, pattern: str) -> int:
    return sum(file.stat().st_size for file in folder.glob(f"*/[!l]*/**/{pattern}"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="sizes of the dataset")
    measured = []
    print(HEADER)
    for rows in sorted(parser.parse_args().rows):
        with tempfile.TemporaryDirectory(prefix="job-scale-") as folder:
            measured.append(measure(rows, Path(folder)))
        print(measured[-1].line(), flush=True)
    sentence, kept = verdict(measured)
    print(f"\n{sentence}")
    phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in measured[-1].first.last["seconds_by_phase"].items())
    print(f"Phases of the largest: {phases}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
