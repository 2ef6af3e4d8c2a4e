"""Running the real job as a process, and reading what it left behind."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
ECHO = {"ENGINE": "echo", "MODEL_ID": "echo-model"}
JOB = [sys.executable, "-m", "job"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished job: its exit code, its log events in order, and what it wrote to standard error."""

    code: int
    events: Sequence[Mapping[str, Any]]
    stderr: str

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
    with start_job(**variables) as process:
        out, err = process.communicate(timeout=280)
    return Outcome(process.returncode, [json.loads(line) for line in out.splitlines()], err)


def write_jsonl(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def results_folder(output: Path) -> Path:
    """The only run folder below an output folder."""
    (folder,) = (file.parent for file in output.glob("*/*/identity.json") if not file.parent.is_symlink())
    return folder


def parquet_bytes(folder: Path) -> bytes:
    (file,) = (folder / "data").glob("*.parquet")
    return file.read_bytes()


def read_table(folder: Path) -> pa.Table:
    (file,) = (folder / "data").glob("*.parquet")
    return pq.read_table(file)
