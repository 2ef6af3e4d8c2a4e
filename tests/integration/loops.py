"""`make generate-all` as a process: what it prints, what it leaves, and the processes below it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.processes import descendants
from tests.support import ROOT, environment

COMMAND = [sys.executable, "scripts/generate-all"]


class RunningLoop:
    """A loop at work, in a process group of its own, as a terminal starts it."""

    def __init__(self, variables: Mapping[str, object]) -> None:
        self.output = Path(str(variables["OUTPUT_DIR"]))
        self.process = subprocess.Popen(
            COMMAND,
            cwd=ROOT,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def says(self, text: str) -> None:
        """Wait until a line of it has this text."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return
        raise AssertionError(f"ended without {text!r}: {self.process.communicate()}")

    def interrupt(self) -> None:
        """Ctrl-C: to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def children(self) -> set[int]:
        return descendants(self.process.pid)

    def end(self, seconds: float = 120) -> "Ended":
        out, err = self.process.communicate(timeout=seconds)
        summary = json.loads((self.output / "summary.json").read_text(encoding="utf-8"))
        return Ended(self.process.returncode, out, err, summary)


class Ended:
    """A loop that has ended. table: the cells of its lines by model."""

    def __init__(self, code: int, out: str, err: str, summary: Mapping[str, Any]) -> None:
        self.code, self.out, self.err, self.summary = code, out, err, summary

    @property
    def table(self) -> Mapping[str, Sequence[str]]:
        lines = self.out.split("\n\nmodel ", 1)[1].split("\n\n")[0].splitlines()[1:]
        return {line.split()[0]: [cell.strip() for cell in line.split("  ")[1:] if cell.strip()] for line in lines}

    def of(self, model: str) -> Mapping[str, Any]:
        (found,) = (each for each in self.summary["models"] if each["model"] == model)
        return dict(found)

    @property
    def codes(self) -> list[int | None]:
        return [each["exit_code"] for each in self.summary["models"]]


@contextmanager
def looping(variables: Mapping[str, object]) -> Iterator[RunningLoop]:
    loop = RunningLoop(variables)
    try:
        yield loop
    finally:
        loop.process.kill()
        loop.process.communicate()


def run_loop(variables: Mapping[str, object]) -> Ended:
    with looping(variables) as loop:
        return loop.end()
