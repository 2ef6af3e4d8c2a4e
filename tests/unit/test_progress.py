import io

import pytest
from structlog.testing import capture_logs

from job.progress import Progress
from job.records import Completion, ResultRow
from tests.unit.builders import answered


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _row(tokens: int) -> ResultRow:
    done = tuple(Completion(0, sample, "x", "stop", tokens) for sample in range(2))
    return ResultRow(0, "p", 1, done)


def test_the_event_counts_rows_and_tokens() -> None:
    clock = FakeClock()
    with Progress(100, 40, 10, None, clock) as progress:
        for _ in range(20):
            progress.add(_row(tokens=10), safe=0)
        clock.now += 8
        assert progress.event(safe=13) == {
            "rows_done": 60,
            "rows_safe": 53,
            "rows": 100,
            "tokens": 400,
            "tokens_per_second": 50.0,
            "eta_seconds": 16.0,
        }
        assert progress.finished == 20


def test_the_event_before_the_first_row_divides_by_nothing() -> None:
    with Progress(10, 0, 10, None, FakeClock()) as progress:
        event = progress.event(safe=0)
    assert event == {"rows_done": 0, "rows_safe": 0, "rows": 10, "tokens": 0, "tokens_per_second": 0.0, "eta_seconds": None}


def test_the_estimate_is_zero_at_the_end() -> None:
    clock = FakeClock()
    with Progress(3, 2, 10, None, clock) as progress:
        clock.now += 5
        progress.add(answered(2), safe=1)
        assert progress.event(safe=1)["eta_seconds"] == 0.0


@pytest.mark.parametrize(("seconds", "reported"), [(10, [20, 40]), (24, [48]), (0, list(range(1, 51)))])
def test_an_event_is_logged_at_the_set_interval(seconds: float, reported: list[int]) -> None:
    clock = FakeClock()
    with capture_logs() as logs, Progress(100, 0, seconds, None, clock) as progress:
        for row in range(50):
            clock.now += 0.5
            progress.add(answered(0), safe=row // 2)
    assert {line["event"] for line in logs} == {"progress"}
    assert [line["rows_done"] for line in logs] == reported
    assert [line["rows_safe"] for line in logs] == [(rows - 1) // 2 for rows in reported]


def test_a_bar_takes_the_place_of_events() -> None:
    clock, screen = FakeClock(), io.StringIO()
    with capture_logs() as logs, Progress(4, 1, 10, screen, clock) as progress:
        for _ in range(3):
            clock.now += 20
            progress.add(answered(0), safe=0)
    assert logs == []
    assert "1/4" in screen.getvalue()
    assert "4/4" in screen.getvalue()
