"""The line and the events that say what the start of the engine is at."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from job.answering import _start_phase
from job.effects import Account
from job.starting import Starting
from job.terminal import StatusLine, making_way
from tests.unit.builders import FakeClock

CLEARED = "\r\x1b[K"


@pytest.mark.parametrize(("seconds", "said"), [(10, [10, 20, 30]), (4, [4, 8, 12, 16, 20, 24, 28]), (0, list(range(1, 31)))])
def test_events_come_at_the_set_interval_and_no_more_than_one_a_second(seconds: float, said: list[int]) -> None:
    clock = FakeClock()
    phases = iter(["import"] * 3 + ["engine"] * 100)
    with capture_logs() as logs:
        starting = Starting(lambda: next(phases), seconds, clock=clock)
        for _ in range(60):
            clock.now += 0.5
            starting.tick()
    assert [line["seconds"] for line in logs] == said
    assert {line["event"] for line in logs} == {"engine_start_progress"}
    assert [line["phase"] for line in logs] == (["import"] * 3 + ["engine"] * 100)[: len(logs)]


def test_on_a_terminal_a_line_takes_the_place_of_events_and_leaves_nothing_behind() -> None:
    clock, screen = FakeClock(), io.StringIO()
    line = StatusLine(screen)
    with capture_logs() as logs, making_way(line.clear):
        starting = Starting(lambda: "config", 10, line, clock)
        for _ in range(2):
            clock.now += 20
            starting.tick()
    assert logs == []
    shown = "starting the engine: config, {} s\r"
    assert screen.getvalue() == CLEARED + shown.format(20) + CLEARED + shown.format(40) + CLEARED


@contextmanager
def logging_only_to(screen: io.StringIO) -> Iterator[None]:
    root = logging.getLogger()
    others, root.handlers = root.handlers, [logging.StreamHandler(screen)]
    yield
    root.handlers = others


def test_a_log_line_stands_alone_in_its_line() -> None:
    screen = io.StringIO()
    line = StatusLine(screen)
    with logging_only_to(screen):
        with making_way(line.clear):
            line.show("text that is longer than the log line")
            logging.getLogger("job").warning("a warning")
            line.show("on")
        logging.getLogger("job").warning("after")
    assert screen.getvalue() == (
        f"{CLEARED}text that is longer than the log line\r{CLEARED}a warning\n{CLEARED}on\r{CLEARED}after\n"
    )


def test_a_terminal_that_is_gone_ends_nothing() -> None:
    screen = io.StringIO()
    screen.close()
    StatusLine(screen).show("text")


def test_a_phase_may_end_while_it_is_looked_at() -> None:
    """The main thread sets it between any two looks."""
    looks: list[tuple[str, float] | None] = [("canary", 0.0), None, None]

    class Changing(Account):
        @property
        def current(self) -> tuple[str, float] | None:
            return looks.pop(0)

        @current.setter
        def current(self, value: tuple[str, float] | None) -> None:
            pass

    plan: Any = SimpleNamespace(backend=SimpleNamespace(phase="engine"))
    phase = _start_phase(plan, Changing())
    assert [phase(), phase()] == ["canary", "engine"]
