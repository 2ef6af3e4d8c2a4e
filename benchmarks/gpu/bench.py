"""What the parts of benchmarks.gpu share: models, rows, folders of caches, and both sides as processes."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import cycle, repeat
from pathlib import Path
from typing import Any, Self

from benchmarks.scale import ROOT
from benchmarks.shape import MAX_MODEL_LEN, short_with_runaways, write_model, write_rows
from tests.support import RunningJob

SMALL, LARGE = 334, 10_000
SHORT, LONG = 64, 256
MODELS = 3
CAPPED_JOB = "benchmarks.capped_job"
PATIENCE = 590
_SPREAD = range(32, 1024, 32)


@dataclass(frozen=True)
class Bench:
    """Where everything lies. repeat: how often the job does what the plain script does once."""

    folder: Path
    source: Path
    repeat: int

    @cached_property
    def models(self) -> list[Path]:
        return [write_model(self.folder / "models" / f"shape-8b-{number}", number) for number in range(MODELS)]

    @cached_property
    def small(self) -> Path:
        return write_rows(self.folder / "small.jsonl", self.source, short_with_runaways(SHORT), SMALL)

    @cached_property
    def large(self) -> Path:
        return write_rows(self.folder / "large.jsonl", self.source, repeat(LONG), LARGE)

    @cached_property
    def spread(self) -> Path:
        """Rows that end one after the other, not all at once."""
        return write_rows(self.folder / "spread.jsonl", self.source, cycle(_SPREAD), SMALL)

    @cached_property
    def brief(self) -> Path:
        return write_rows(self.folder / "brief.jsonl", self.source, repeat(SHORT), SMALL)

    def apart(self, part: str) -> Self:
        """The same with a folder of its own, where all caches are empty."""
        folder = self.folder / part
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return replace(self, folder=folder)

    def caches(self, side: str) -> dict[str, str]:
        """Folders for what a side's libraries keep."""
        top = self.folder / "caches" / side
        names = {"VLLM_CACHE_ROOT": "vllm", "TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
        return {**os.environ, **{name: str(top / folder) for name, folder in names.items()}}

    def settings(self, rows: Path, output: str, **more: object) -> dict[str, str]:
        """The environment of a job, without its model."""
        chosen = {
            "DATASET_ID": rows,
            "MAX_MODEL_LEN": MAX_MODEL_LEN,
            "OUTPUT_DIR": self.folder / output,
            "ENGINE_ARGS": json.dumps({"load_format": "dummy"}),
            "LOG_FORMAT": "json",
            "HUB_NAMESPACE": "",
            **more,
        }
        return self.caches("job") | {name: str(value) for name, value in chosen.items()}

    def plain(self, models: Sequence[Path], rows: Sequence[Path], *more: str) -> tuple[dict[str, Any], float]:
        """The plain script's report, and its seconds from the start of its process to its end."""
        output = self.folder / "plain"
        output.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "benchmarks.plain_script", *map(str, models)]
        command += ["--rows", *map(str, rows), "--output", str(output), *more]
        started = time.monotonic()
        ran = subprocess.run(command, cwd=ROOT, env=self.caches("plain"), capture_output=True, text=True, check=False)
        if ran.returncode:
            sys.exit(f"the plain script failed:\n{ran.stdout[-2000:]}{ran.stderr[-4000:]}")
        return json.loads(ran.stdout.splitlines()[-1]), time.monotonic() - started

    def job(self, name: str, rows: Path, **more: object) -> "Ran":
        """A whole job of the first model."""
        settings = self.settings(rows, name, MODEL_ID=self.models[0], **more)
        began = time.time()
        outcome = RunningJob(self.folder / "logs" / name, [sys.executable, "-m", CAPPED_JOB], settings).end(PATIENCE)
        if outcome.code:
            sys.exit(f"{name} ended with {outcome.code}: {outcome.last}")
        (ready,) = outcome.of("engine_ready")
        until_ready = datetime.fromisoformat(ready["timestamp"]).timestamp() - began
        return Ran(until_ready, outcome.seconds, outcome.last["seconds_by_phase"], outcome.last["completion_tokens"])


@dataclass(frozen=True, slots=True)
class Ran:
    """A job that ended well. ready: seconds from the start of its process until its engine could answer."""

    ready: float
    seconds: float
    phases: Mapping[str, float]
    tokens: int

    @property
    def by_phase(self) -> str:
        return ", ".join(f"{name} {value:.1f}" for name, value in self.phases.items())

    @property
    def rate(self) -> float:
        return self.tokens / self.phases["generation"]
