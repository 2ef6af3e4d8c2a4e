import io

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
    with Progress(100, 40, None, clock) as progress:
        for _ in range(20):
            progress.add(_row(tokens=10))
        clock.now += 8
        assert progress.event() == {
            "rows_done": 60,
            "rows": 100,
            "tokens": 400,
            "tokens_per_second": 50.0,
            "eta_seconds": 16.0,
        }
        assert progress.finished == 20


def test_the_event_before_the_first_row_divides_by_nothing() -> None:
    with Progress(10, 0, None, FakeClock()) as progress:
        assert progress.event() == {"rows_done": 0, "rows": 10, "tokens": 0, "tokens_per_second": 0.0, "eta_seconds": None}


def test_the_estimate_is_zero_at_the_end() -> None:
    clock = FakeClock()
    with Progress(3, 2, None, clock) as progress:
        clock.now += 5
        progress.add(answered(2))
        assert progress.event()["eta_seconds"] == 0.0


def test_an_event_is_logged_every_ten_seconds() -> None:
    clock = FakeClock()
    with capture_logs() as logs, Progress(100, 0, None, clock) as progress:
        for _ in range(50):
            clock.now += 0.5
            progress.add(answered(0))
    assert [line["event"] for line in logs] == ["progress", "progress"]
    assert [line["rows_done"] for line in logs] == [20, 40]


def test_a_bar_takes_the_place_of_events() -> None:
    clock, screen = FakeClock(), io.StringIO()
    with capture_logs() as logs, Progress(4, 1, screen, clock) as progress:
        for _ in range(3):
            clock.now += 20
            progress.add(answered(0))
    assert logs == []
    assert "1/4" in screen.getvalue()
    assert "4/4" in screen.getvalue()
