import io

import pytest
from structlog.testing import capture_logs

from job.progress import Progress
from job.records import Completion, Load, ResultRow
from tests.unit.builders import FakeClock, answered


def _row(tokens: int) -> ResultRow:
    done = tuple(Completion(0, sample, "x", "stop", tokens) for sample in range(2))
    return ResultRow(0, "p", 1, done)


def test_the_event_counts_rows_tokens_and_requests() -> None:
    clock = FakeClock()
    with Progress(100, 40, 10, None, clock, safe=lambda: 13, load=lambda: Load(16, 4)) as progress:
        for _ in range(20):
            progress.add(_row(tokens=10))
        clock.now += 8
        assert progress.event() == {
            "rows_done": 60,
            "rows_safe": 53,
            "rows": 100,
            "running": 16,
            "waiting": 4,
            "tokens": 400,
            "tokens_per_second": 50.0,
            "eta_seconds": 16.0,
        }
        assert (progress.finished, progress.lag) == (20, 7)


def test_the_event_before_the_first_row_divides_by_nothing() -> None:
    with Progress(10, 0, 10, None, FakeClock()) as progress:
        event = progress.event()
    assert event == {
        "rows_done": 0,
        "rows_safe": 0,
        "rows": 10,
        "running": 0,
        "waiting": 0,
        "tokens": 0,
        "tokens_per_second": 0.0,
        "eta_seconds": None,
    }


def test_the_estimate_is_zero_at_the_end() -> None:
    clock = FakeClock()
    with Progress(3, 2, 10, None, clock) as progress:
        clock.now += 5
        progress.add(answered(2))
        assert progress.event()["eta_seconds"] == 0.0


def test_nobody_waits_for_what_the_engine_has_at_the_end() -> None:
    with Progress(3, 0, 10, None, FakeClock(), load=lambda: Load(2, 1)) as progress:
        assert progress.load == Load(2, 1)
    assert progress.load == Load(0, 0)


@pytest.mark.parametrize(("seconds", "reported"), [(10, [20, 40]), (24, [48]), (0, list(range(1, 51)))])
def test_an_event_is_logged_at_the_set_interval(seconds: float, reported: list[int]) -> None:
    clock = FakeClock()
    safe = 0
    with capture_logs() as logs, Progress(100, 0, seconds, None, clock, safe=lambda: safe) as progress:
        for row in range(50):
            clock.now += 0.5
            safe = row // 2
            progress.add(answered(0))
    assert {line["event"] for line in logs} == {"progress"}
    assert [line["rows_done"] for line in logs] == reported
    assert [line["rows_safe"] for line in logs] == [(rows - 1) // 2 for rows in reported]


@pytest.mark.parametrize(("seconds", "reported"), [(10, [10, 20, 30]), (12, [12, 24]), (0, list(range(1, 31)))])
def test_it_goes_on_being_logged_while_no_row_finishes(seconds: float, reported: list[int]) -> None:
    """An answer may take longer than whoever watches has patience."""
    clock = FakeClock()
    began = clock.now
    at: list[float] = []
    with capture_logs() as logs, Progress(1, 0, seconds, None, clock, load=lambda: Load(1, 0)) as progress:
        for _ in range(120):
            clock.now += 0.25
            progress.tick()
            at += [clock.now - began] * (len(logs) - len(at))
    assert at == reported
    assert {(line["event"], line["rows_done"], line["running"]) for line in logs} == {("progress", 0, 1)}


def test_rows_and_ticks_together_make_no_more_events_than_were_asked_for() -> None:
    clock = FakeClock()
    with capture_logs() as logs, Progress(100, 0, 10, None, clock) as progress:
        for _ in range(80):
            clock.now += 0.5
            progress.add(answered(0))
            progress.tick()
    assert [line["rows_done"] for line in logs] == [20, 40, 60, 80]


def test_a_bar_takes_the_place_of_events() -> None:
    clock, screen = FakeClock(), io.StringIO()
    load = Load(3, 5)
    with capture_logs() as logs, Progress(4, 1, 10, screen, clock, load=lambda: load) as progress:
        progress.tick()
        assert "3 running, 5 waiting" in screen.getvalue()
        for _ in range(3):
            clock.now += 20
            progress.add(answered(0))
        load = Load(1, 0)
        progress.tick()
    assert logs == []
    assert "1/4" in screen.getvalue()
    assert "4/4" in screen.getvalue()
    assert "1 running, 0 waiting" in screen.getvalue()
