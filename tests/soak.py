"""`make soak`: one long run of the echo engine, watched from outside, whose memory and handles must not grow.

From `engine_ready` on the process is looked at every few seconds: resident memory, open files, threads, processes, temporary
files. Growth is judged within a phase, between its second and its last fifth: a start may take what it needs.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from benchmarks.scale import write_dataset
from job.results import GROUP_BYTES
from tests.integration.kills import left_over
from tests.processes import descendants
from tests.support import ECHO, RunningJob, running

MEGABYTE = 10**6
MAX_GROWTH = 1.1
# What an allocator may keep by chance; and, while results are written, some copies of a row group, which fills up.
MAX_GROWTH_BYTES = {"generation": 10 * MEGABYTE, "results": 10 * MEGABYTE + 4 * GROUP_BYTES}
FEWEST_SAMPLES = 10
# The phase that an event begins.
PHASES = {"engine_ready": "generation", "results_written": "end"}
FEWEST_WORDS, MOST_WORDS = 2, 12


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process holds at one moment. resident: bytes, files that are mapped left out."""

    second: float
    resident: int
    handles: int
    threads: int
    processes: int
    temporary: int


@dataclass(frozen=True, slots=True)
class Soak:
    """A finished run: samples by phase, the last log line, and what it left in its folder for temporary files."""

    samples: Mapping[str, Sequence[Sample]]
    last: Mapping[str, object]
    left: Sequence[str]


def take(pid: int, second: float, temporary: Path) -> Sample | None:
    """A sample, None where the process has ended meanwhile."""
    try:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        handles = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        anonymous = int(status["RssAnon"].split()[0]) * 1024
    except (OSError, KeyError):
        return None
    # The plot's library keeps a list of fonts there, one file, which comes at the end of the results, however many rows.
    files = sum(1 for path in temporary.rglob("*") if path.is_file() and path.parent.name != "matplotlib")
    return Sample(second, anonymous, handles, int(status["Threads"]), len(descendants(pid)), files)


def soak(folder: Path, rows: int, every_seconds: float) -> Soak:
    """Answer so many rows, and look at the process meanwhile. Raises: AssertionError where it does not end well."""
    data, temporary = folder / "rows.jsonl", folder / "tmp"
    write_dataset(data, rows, FEWEST_WORDS, MOST_WORDS)
    temporary.mkdir()
    own = {"OUTPUT_DIR": folder / "results", "HF_HOME": folder / "hf", "TMPDIR": temporary}
    with running(folder / "log", {**ECHO, "DATASET_ID": data, **own}) as job:
        samples: dict[str, list[Sample]] = {"start": []}
        for phase, sample in watched(job, temporary, every_seconds):
            samples.setdefault(phase, []).append(sample)
        outcome = job.end()
    assert outcome.code == 0, outcome.last
    assert outcome.last["generated_rows"] == rows
    return Soak(samples, outcome.last, left_over(temporary))


def watched(job: RunningJob, temporary: Path, every_seconds: float) -> Iterator[tuple[str, Sample]]:
    """Samples with their phase until the job ends. Reads its log as it grows."""
    phase, started = "start", time.monotonic()
    log = job.follow()
    while job.process.poll() is None:
        for line in next(log):
            phase = PHASES.get(line["event"], phase)
            if line["event"] == "progress" and line["rows_done"] == line["rows"]:
                phase = "results"
        sample = take(job.process.pid, round(time.monotonic() - started, 1), temporary)
        if sample:
            yield phase, sample
        time.sleep(every_seconds)


def violations(run: Soak) -> Sequence[str]:
    """What grew, and what is left."""
    found = [f"left behind: {name}" for name in run.left]
    for phase, allowed in MAX_GROWTH_BYTES.items():
        samples = run.samples.get(phase, [])
        if len(samples) >= FEWEST_SAMPLES:
            found += [f"{phase}: {grown}" for grown in growth(fifth(samples, 1), fifth(samples, 4), allowed)]
        elif phase == "generation":
            found.append(f"{phase}: only {len(samples)} samples, more rows are needed")
    return found


def growth(early: Sequence[Sample], late: Sequence[Sample], allowed: int) -> Iterator[str]:
    """What a process holds more of, late in a phase than early in it. allowed: bytes."""
    before, after = middle(early), middle(late)
    if after > max(before * MAX_GROWTH, before + allowed):
        yield f"memory grew from {before:,.0f} to {after:,.0f} bytes"
    for what in ("handles", "threads", "processes", "temporary"):
        most = [max(int(getattr(sample, what)) for sample in part) for part in (early, late)]
        if most[1] > most[0]:
            yield f"{what} grew from {most[0]} to {most[1]}"


def fifth(samples: Sequence[Sample], number: int) -> Sequence[Sample]:
    """A fifth of the samples, from 0 to 4."""
    return samples[len(samples) * number // 5 : len(samples) * (number + 1) // 5]


def middle(samples: Sequence[Sample]) -> float:
    """The median of the resident bytes."""
    return statistics.median(sample.resident for sample in samples)


def lines(run: Soak) -> Iterator[str]:
    """A table of each phase by fifths."""
    yield "| phase | until second | memory MB | most | handles | threads | processes | temporary files |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for phase, samples in run.samples.items():
        for number in range(5):
            if part := fifth(samples, number):
                most = Sample(*(max(values) for values in zip(*map(astuple, part), strict=True)))
                memory = f"{middle(part) / MEGABYTE:.1f} | {most.resident / MEGABYTE:.1f}"
                held = " | ".join(map(str, (most.handles, most.threads, most.processes, most.temporary)))
                yield f"| {phase} | {most.second} | {memory} | {held} |"


def main() -> int:
    parser = argparse.ArgumentParser(description="One long run whose memory and handles must not grow.")
    parser.add_argument("--rows", type=int, default=20_000_000, help="default: %(default)s, some forty minutes")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two looks (default: %(default)s)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        run = soak(Path(folder), chosen.rows, chosen.every)
    found = violations(run)
    summary = json.dumps({name: run.last[name] for name in ("rows", "seconds", "seconds_by_phase")})
    sys.stdout.write("\n".join([*lines(run), summary, f"violations: {len(found)}", *found, ""]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
