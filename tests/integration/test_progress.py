"""What a run says of how far it is: in its log, and on a terminal."""

import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import ECHO, ROOT, environment, run_job, write_jsonl

pytestmark = pytest.mark.slow
HELD_JOB = [sys.executable, "-m", "tests.integration.held_job"]


def settings(folder: Path, delay: float, rows: int = 2, window: int = 1) -> dict[str, object]:
    data = write_jsonl(folder / "rows.jsonl", [{"instruction": f"Count to {number}."} for number in range(rows)])
    switches = json.dumps({"delay_seconds": delay, "window": window})
    return {**ECHO, "DATASET_ID": data, "ENGINE_ARGS": switches, "OUTPUT_DIR": folder / "results"}


def test_a_row_that_takes_long_is_not_silence(tmp_path: Path) -> None:
    outcome = run_job(**settings(tmp_path, delay=4, rows=1), PROGRESS_SECONDS=0.5)
    events = outcome.of("progress")
    assert outcome.code == 0
    assert [event["rows_done"] for event in events][:3] == [0, 0, 0]
    assert {(event["running"], event["waiting"]) for event in events[:-1]} == {(1, 0)}
    assert (events[-1]["rows_done"], events[-1]["running"]) == (1, 0)


def _on_a_terminal(command: list[str], variables: dict[str, object]) -> Iterator[str]:
    """What is seen on it, each time there is more, until the process ends with 0."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 120))
    environ = environment(**variables, LOG_FORMAT="auto", TERM="xterm")
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=theirs, stderr=theirs, stdin=theirs) as process:
        os.close(theirs)
        seen = ""
        with suppress(OSError):  # which is how the end of a terminal is said
            while some := os.read(ours, 65536):
                seen += some.decode()
                yield seen
        os.close(ours)
        assert process.wait(60) == 0, seen


def _lines(seen: str) -> list[str]:
    """The lines that stay, as a terminal shows them."""
    shown = []
    for line in seen.split("\n"):
        cells = ""
        for part in line.split("\r"):
            text = part.removeprefix("\x1b[K")
            cells = text + ("" if part.startswith("\x1b[K") else cells[len(text) :])
        shown.append(cells.rstrip())
    return shown


def test_on_a_terminal_the_start_is_a_line_that_goes_and_the_rows_are_a_bar(tmp_path: Path) -> None:
    run = {**settings(tmp_path, delay=2, rows=3, window=2), "HUB_NAMESPACE": "me", "HOLD": tmp_path}
    (tmp_path / "publish").touch()
    seen = ""
    for seen in _on_a_terminal(HELD_JOB, run):
        if "starting the engine: engine, 2 s" in seen:
            (tmp_path / "start").touch()
    assert "2 running, 0 waiting" in seen
    assert "tok/s" in seen
    lines = _lines(seen)
    assert not [line for line in lines if "starting the engine" in line]
    assert not [line for line in lines if "running" in line and "[info" in line]
    assert len([line for line in lines if "3/3" in line]) == 1
    assert [line for line in lines if "engine_starting" in line]
    assert not [line for line in lines if "engine_start_progress" in line]
