"""Running the real job as a process, and reading what it left behind."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
ECHO = {"ENGINE": "echo", "MODEL_ID": "echo-model"}
JOB = [sys.executable, "-m", "job"]
POLL_SECONDS = 0.005
TOKEN = "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEF"  # looks like one of the Hub, and is none

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished job: its exit code, its log events in order, and what it wrote to standard error."""

    code: int
    events: Sequence[Mapping[str, Any]]
    stderr: str
    seconds: float = 0.0

    @property
    def last(self) -> Mapping[str, Any]:
        """The canonical line."""
        return self.events[-1]

    def of(self, event: str) -> list[Mapping[str, Any]]:
        return [line for line in self.events if line["event"] == event]


def environment(**variables: object) -> dict[str, str]:
    """What a job gets: a bare environment, JSON logs, and these variables."""
    bare = {name: os.environ[name] for name in ("PATH", "HOME", "HF_HOME", "TMPDIR") if name in os.environ}
    return bare | {"LOG_FORMAT": "json"} | {name: str(value) for name, value in variables.items()}


def start_job(**variables: object) -> subprocess.Popen[str]:
    """The real job as a process of its own; standard output and error are pipes."""
    return subprocess.Popen(
        JOB, cwd=ROOT, env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run_job(**variables: object) -> Outcome:
    """The real job, to its end. Every line of its standard output must be JSON."""
    started = time.monotonic()
    with start_job(**variables) as process:
        out, err = process.communicate(timeout=280)
    return Outcome(process.returncode, [json.loads(line) for line in out.splitlines()], err, time.monotonic() - started)


def typed(commands: str, **variables: object) -> str:
    """What a person sees who types these commands of a page into bash, all of which have to succeed."""
    command = ["bash", "-euo", "pipefail", "-c", commands]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(**variables), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


class RunningJob:
    """A job at work whose events can be read meanwhile. `running` ends it, if the test did not."""

    def __init__(self, folder: Path, command: Sequence[str], variables: Mapping[str, object]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._out, self._err = folder / "stdout", folder / "stderr"
        self._started = time.monotonic()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment(**variables), stdout=out, stderr=err)

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it logged so far; the line that it is writing just now is left out."""
        whole, _, _ = self._out.read_text(encoding="utf-8").rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def follow(self) -> Iterator[list[dict[str, Any]]]:
        """Each time, the events since the time before, without reading the log again."""
        rest = ""
        with self._out.open(encoding="utf-8") as file:
            while True:
                whole, _, rest = (rest + file.read()).rpartition("\n")
                yield [json.loads(line) for line in whole.splitlines()]

    def event(self, name: str, seconds: float = 60) -> dict[str, Any]:
        """The first event of this name, as soon as it is there."""
        return self.until(lambda: next((line for line in self.events if line["event"] == name), None), seconds)

    def until(self, look: Callable[[], T | None], seconds: float = 60) -> T:
        """What `look` finds, as soon as it finds something; the job must not end without."""
        deadline = time.monotonic() + seconds
        while True:
            ended = self.process.poll()
            if (found := look()) is not None:
                return found
            assert ended is None, f"the job ended with {ended}: {self.events[-1:]} {self._err.read_text()}"
            assert time.monotonic() < deadline, f"nothing after {seconds} s: {self.events[-1:]}"
            time.sleep(POLL_SECONDS)

    def end(self, seconds: float = 120) -> Outcome:
        """Wait until it ends by itself."""
        code = self.process.wait(seconds)
        return Outcome(code, self.events, self._err.read_text(encoding="utf-8"), time.monotonic() - self._started)


@contextmanager
def running(folder: Path, variables: Mapping[str, object], command: Sequence[str] = JOB) -> Iterator[RunningJob]:
    """The real job, or another command, while the block runs; its output is kept in `folder`."""
    job = RunningJob(folder, command, variables)
    try:
        yield job
    finally:
        with suppress(ProcessLookupError):
            job.process.kill()
        job.process.wait()


def load_script(name: str) -> ModuleType:
    """A script without a suffix, as a module."""
    loader = SourceFileLoader(f"{name.replace('-', '_')}_script", str(ROOT / "scripts" / name))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def journal_of(output: Path) -> Path | None:
    """The only journal below an output folder, None where there is none yet."""
    files = (file for file in output.glob("*/*/shard-*/journal.sqlite") if not file.parents[1].is_symlink())
    return next(files, None)


def read_journal(path: Path) -> dict[int, tuple[object, ...]]:
    """The finished rows by position, as any process sees them beside the one that writes; empty before there are tables."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)) as connection:
        if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'finished'").fetchone() == (0,):
            return {}
        return {row[0]: row[1:] for row in connection.execute("SELECT * FROM finished")}


def finished_rows(output: Path) -> dict[int, tuple[object, ...]]:
    """The finished rows of the only run below an output folder."""
    journal = journal_of(output)
    return read_journal(journal) if journal else {}


def write_jsonl(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def results_folder(output: Path) -> Path:
    """The only run folder below an output folder."""
    (folder,) = (file.parent for file in output.glob("*/*/identity.json") if not file.parent.is_symlink())
    return folder


def untimed(card: str) -> str:
    """What a dataset card says that does not depend on how long the run took."""
    timed = ("| tokens per second of generation |", "| seconds by phase |", "| GPU seconds", "| cost |")
    return "".join(line for line in card.splitlines(keepends=True) if not line.startswith(timed))


def described_alike(folder: Path) -> tuple[str, bytes]:
    """Card and plot of finished results: the same, however often the run was interrupted."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    return untimed(card), (folder / "images" / "default" / "test-lengths.png").read_bytes()


def parquet_bytes(folder: Path) -> bytes:
    (file,) = (folder / "data").glob("*.parquet")
    return file.read_bytes()


def read_table(folder: Path) -> pa.Table:
    (file,) = (folder / "data").glob("*.parquet")
    return pq.read_table(file)
