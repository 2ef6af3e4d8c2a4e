"""A started command: what is read out of its log, and its exit code."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from scripts.loop.children import Child, StartedChild
from scripts.loop.runners import Command

pytestmark = pytest.mark.slow


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "m.log"


def start(log: Path, code: str) -> StartedChild:
    return StartedChild(
        Command((sys.executable, "-c", code), {"SOME": "thing", "PATH": os.environ["PATH"]}, signal.SIGKILL), log
    )


def end(child: Child) -> int:
    deadline = time.monotonic() + 30
    while (code := child.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return code


def test_events_are_those_of_the_job_and_all_else_is_text(log: Path) -> None:
    lines = [
        '{"event": "planned", "logger": "job.pipeline", "rows": 3}',
        '{"event": "loading", "logger": "vllm"}',
        "[1, 2]",
        "docker: no space left on device.",
        '{"logger": "job"}',
    ]
    child = start(log, f"print({chr(10).join(lines)!r})")
    assert end(child) == 0
    assert child.events() == [
        {"event": "planned", "logger": "job.pipeline", "rows": 3},
        {"event": "", "logger": "job"},
    ]
    assert child.last_text == "docker: no space left on device."
    assert child.events() == []
    assert log.read_text().splitlines() == lines


def test_a_line_is_read_when_it_is_whole(log: Path) -> None:
    code = """import time; print('{"event": "a", "logger"', end="", flush=True); time.sleep(0.5); print(': "job"}')"""
    child = start(log, code)
    deadline = time.monotonic() + 30
    while not log.read_text():
        assert time.monotonic() < deadline
    assert child.events() == []
    assert end(child) == 0
    assert [event["event"] for event in child.events()] == ["a"]


def test_the_log_of_the_time_before_stays_and_is_not_read_again(log: Path) -> None:
    for number in range(2):
        child = start(log, f"""print('{{"event": "run {number}", "logger": "job"}}')""")
        assert end(child) == 0
        assert [event["event"] for event in child.events()] == [f"run {number}"]
    assert len(log.read_text().splitlines()) == 2


def test_its_environment_is_the_one_that_was_given(log: Path) -> None:
    child = start(log, "import os; print(os.environ['SOME'], 'HOME' in os.environ)")
    assert end(child) == 0
    child.events()
    assert child.last_text == "thing False"


def test_exit_codes_are_those_of_a_shell(log: Path) -> None:
    assert end(start(log, "import sys; sys.exit(78)")) == 78
    assert end(start(log, "import os; os.kill(os.getpid(), 9)")) == 137
    child = start(log, "import time; time.sleep(60)")
    child.send(signal.SIGTERM)
    assert end(child) == 143
    child.send(signal.SIGTERM)


def test_a_command_that_is_not_there_ends_with_127(log: Path) -> None:
    child = StartedChild(Command(("/no/such/program",), {}, signal.SIGKILL), log)
    assert end(child) == 127
    child.events()
    assert child.last_text == "/no/such/program: No such file or directory"
