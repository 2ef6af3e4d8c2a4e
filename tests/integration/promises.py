"""What the log calls safe, held against what is there after a SIGKILL that follows the promise at once."""

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from time import sleep
from typing import Any, Self

from structlog.testing import capture_logs

from job import pipeline
from job.effects import Effects
from job.settings import Settings
from job.shutdown import StopSignal
from tests.integration.kills import Rows, snapshot
from tests.support import ECHO, RunningJob, finished_rows, running, write_jsonl

ROWS = 240
WINDOW = 16
DELAY_SECONDS = 0.05
PAUSE_SECONDS = 0.15  # between a promise and the kill, at most: longer than a group of rows gathers
_SAFE = re.compile(r"(\d+) of \d+ rows are safe in ")


@dataclass(frozen=True, slots=True)
class Promise:
    """rows: so many are in the journal; results: the folder is whole."""

    rows: int = 0
    results: bool = False

    def and_then(self, events: Iterable[Mapping[str, Any]]) -> Self:
        """What holds after these events of the log, too."""
        promise = self
        for event in events:
            rows = [event.get("rows_safe", 0), event.get("rows_done", 0) if event["event"] == "resume_found" else 0]
            rows += map(int, _SAFE.findall(event.get("message", "")))
            whole = event["event"] == "results_written" or event.get("exit_code") == 0
            promise = replace(promise, rows=max(promise.rows, *rows), results=promise.results or whole)
        return promise

    def broken_by(self, rows: Rows, expected: Rows) -> str:
        """What is wrong with the rows of a journal; empty where nothing is. expected: those of an undisturbed run."""
        wrong = [position for position, row in rows.items() if expected.get(position) != row]
        if wrong:
            return f"rows differ from an undisturbed run's: {wrong[:10]}"
        return "" if len(rows) >= self.rows else f"{self.rows} rows were called safe, and {len(rows)} are there"


@dataclass(slots=True)
class KillReport:
    """promised: rows called safe, in all tries; unkept: rows counted as done that were not there, and not called safe."""

    tries: int = 0
    processes: int = 0
    promised: int = 0
    unkept: int = 0
    violations: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        return [
            f"kills after a promise            {self.tries}",
            f"processes started                {self.processes}",
            f"rows called safe                 {self.promised}, in all tries",
            f"finished beyond those, and lost  {self.unkept}",
            f"promises broken                  {len(self.violations)}",
            *(f"  {violation}" for violation in self.violations[:10]),
        ]


def settings(folder: Path, rows: int, **more: object) -> dict[str, object]:
    """A job that says after each row what is safe."""
    data = folder / "rows.jsonl"
    if not data.exists():
        texts = (f"Tell me about the number {number}. " * (1 + number % 7) for number in range(rows))
        write_jsonl(data, [{"instruction": text} for text in texts])
    switches = json.dumps({"delay_seconds": DELAY_SECONDS, "window": WINDOW})
    own = {"HF_HOME": folder / "hf", "OUTPUT_DIR": folder / "results", "PROGRESS_SECONDS": 0}
    return {**ECHO, "DATASET_ID": data, "ENGINE_ARGS": switches, **own, **more}


def run_undisturbed(variables: Mapping[str, object]) -> None:
    """The job in this process, quietly."""
    settings = Settings.from_env({name: str(value) for name, value in variables.items()})
    with capture_logs():
        pipeline.run(settings, Effects(StopSignal(), bind_log=lambda **_: None))


def kill_after_promises(folder: Path, *, tries: int, seed: int) -> KillReport:
    """Runs that are killed at random moments after they said what is safe, until so many kills have landed."""
    chance, report, run = Random(seed), KillReport(), settings(folder, ROWS)
    run_undisturbed({**run, "OUTPUT_DIR": folder / "undisturbed"})
    expected, output = finished_rows(folder / "undisturbed"), folder / "results"
    rows: Rows = {}
    while report.tries < tries:
        if len(rows) > ROWS * 3 // 4:
            shutil.rmtree(output)
            rows = {}
        wanted = len(rows) + chance.randint(1, (ROWS - len(rows)) // 2)
        report.processes += 1
        with running(folder / "log", run) as job:
            job.until(lambda job=job, wanted=wanted: _promised(job).rows >= wanted or None)  # type: ignore[misc]
            sleep(chance.uniform(0, PAUSE_SECONDS))
            job.process.kill()
            killed = job.process.wait() < 0
            promise = _promised(job)
        left = snapshot(output, folder / "copy")
        report.tries += killed
        report.promised += promise.rows
        report.unkept += max(0, max(event["rows_done"] for event in job.events if "rows_done" in event) - len(left.rows))
        broken = promise.broken_by(left.rows, expected) if left.sound else "the journal is damaged"
        if broken:
            report.violations.append(f"try {report.tries}: {broken}")
        rows = left.rows
    return report


def _promised(job: RunningJob) -> Promise:
    return Promise().and_then(job.events)
