import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Self

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from structlog.testing import capture_logs

from job.generation import failed_row, generate
from job.identity import row_seed
from job.records import Completion, Failure, Load, Prompt, Request, ResultRow
from tests.unit.builders import prompt


class FakeStop:
    """Stops when it is told to."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self.grace_is_over = False

    def interrupting(self) -> AbstractContextManager[None]:
        return nullcontext()

    def interrupting_after_grace(self) -> AbstractContextManager[None]:
        return nullcontext()


class FakeEngine:
    """Finishes requests when and in the order that `choose` says: it gets those in flight and gives those to finish."""

    def __init__(self, window: int, choose: Callable[[list[Request]], list[Request]]) -> None:
        self.window = window
        self.facts: dict[str, object] = {}
        self.start_seconds: dict[str, float] = {}
        self._choose = choose
        self.flying: list[Request] = []
        self.fed: list[Request] = []
        self.most = 0
        self.harvests = 0

    @property
    def load(self) -> Load:
        return Load(running=len(self.flying))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def feed(self, request: Request) -> None:
        self.fed.append(request)
        self.flying.append(request)
        self.most = max(self.most, len(self.flying))

    def harvest(self) -> Sequence[Completion]:
        assert self.flying, "harvest is only for requests in flight"
        self.harvests += 1
        chosen = self._choose(self.flying)
        self.flying = [request for request in self.flying if request not in chosen]
        return [Completion(r.position, r.sample, f"{r.position}/{r.sample}", "stop", 1) for r in chosen]


def _first(flying: list[Request]) -> list[Request]:
    return flying[:1]


def _run(
    prompts: Sequence[Prompt], engine: FakeEngine, stop: FakeStop | None = None, num_samples: int = 1
) -> tuple[bool, list[ResultRow]]:
    rows: list[ResultRow] = []
    complete = generate(prompts, engine, seed=9, num_samples=num_samples, stop=stop or FakeStop(), on_row=rows.append)
    return complete, rows


@effort(max_examples=30, deadline=None)
@given(st.integers(0, 30), st.integers(1, 3), st.integers(1, 12), st.randoms(use_true_random=False))
def test_every_row_is_assembled_whatever_the_order(count: int, num_samples: int, window: int, chance: random.Random) -> None:
    engine = FakeEngine(window, lambda flying: chance.sample(flying, chance.randint(0, len(flying))))
    complete, rows = _run([prompt(position) for position in range(count)], engine, num_samples=num_samples)
    assert complete
    assert sorted(row.position for row in rows) == list(range(count))
    assert all(
        [done.text for done in row.completions] == [f"{row.position}/{sample}" for sample in range(num_samples)] for row in rows
    )
    assert all((row.prompt, row.prompt_tokens) == (f"prompt {row.position}", 3) for row in rows)
    assert engine.most == min(window, count * num_samples)


def test_requests_are_fed_in_order_with_their_own_seeds() -> None:
    engine = FakeEngine(3, _first)
    _run([prompt(4), prompt(7)], engine, num_samples=2)
    assert engine.fed == [Request(p, s, [p, 1, 2], row_seed(9, p, s)) for p, s in [(4, 0), (4, 1), (7, 0), (7, 1)]]


def test_the_window_is_filled_up_before_each_harvest() -> None:
    seen: list[int] = []

    def one(flying: list[Request]) -> list[Request]:
        seen.append(len(flying))
        return flying[:1]

    _run([prompt(position) for position in range(6)], FakeEngine(3, one))
    assert seen == [3, 3, 3, 3, 2, 1]


def test_a_row_is_handed_over_as_soon_as_its_samples_are_there() -> None:
    engine = FakeEngine(100, _first)
    harvests: list[int] = []
    generate(
        [prompt(position) for position in range(3)],
        engine,
        seed=0,
        num_samples=2,
        stop=FakeStop(),
        on_row=lambda _row: harvests.append(engine.harvests),
    )
    assert harvests == [2, 4, 6]


def test_prompts_are_taken_only_as_the_window_has_room() -> None:
    taken: list[int] = []

    def prompts() -> Iterator[Prompt]:
        for position in range(10):
            taken.append(position)
            yield prompt(position)

    most: list[int] = []
    engine = FakeEngine(2, _first)
    generate(prompts(), engine, seed=0, num_samples=1, stop=FakeStop(), on_row=lambda _row: most.append(len(taken)))
    assert most == [2, 3, 4, 5, 6, 7, 8, 9, 10, 10]


def test_no_prompts_are_complete_at_once() -> None:
    engine = FakeEngine(2, _first)
    assert _run([], engine) == (True, [])
    assert engine.harvests == 0


def _stopping(stop: FakeStop, after: int, grace_over: bool = False) -> Callable[[list[Request]], list[Request]]:
    """Finish one request at a time; the signal comes while harvest number `after` is under way."""
    count = 0

    def choose(flying: list[Request]) -> list[Request]:
        nonlocal count
        count += 1
        if count == after:
            stop.signal = "SIGTERM"
            stop.grace_is_over = grace_over
        return flying[:1]

    return choose


def test_after_a_stop_nothing_is_fed_and_what_is_in_flight_finishes() -> None:
    stop = FakeStop()
    engine = FakeEngine(4, _stopping(stop, after=3))
    with capture_logs() as logs:
        complete, rows = _run([prompt(position) for position in range(20)], engine, stop)
    assert not complete
    assert [request.position for request in engine.fed] == [0, 1, 2, 3, 4, 5]
    assert [row.position for row in rows] == [0, 1, 2, 3, 4, 5]
    (noticed,) = logs
    assert (noticed["event"], noticed["signal"], noticed["in_flight"]) == ("shutdown_requested", "SIGTERM", 3)


def test_rows_still_in_flight_are_left_where_the_grace_is_over() -> None:
    stop = FakeStop()
    engine = FakeEngine(4, _stopping(stop, after=3, grace_over=True))
    complete, rows = _run([prompt(position) for position in range(20)], engine, stop)
    assert not complete
    assert [row.position for row in rows] == [0, 1, 2]
    assert engine.harvests == 3


def test_a_row_with_a_sample_missing_at_the_stop_is_not_handed_over() -> None:
    stop = FakeStop()
    engine = FakeEngine(3, _stopping(stop, after=1))
    complete, rows = _run([prompt(position) for position in range(4)], engine, stop, num_samples=2)
    assert not complete
    assert [(request.position, request.sample) for request in engine.fed] == [(0, 0), (0, 1), (1, 0)]
    assert [row.position for row in rows] == [0]


def test_nothing_is_fed_where_the_stop_came_first() -> None:
    stop = FakeStop()
    stop.signal = "SIGINT"
    engine = FakeEngine(4, _first)
    assert _run([prompt(0)], engine, stop) == (False, [])
    assert engine.fed == []


@pytest.mark.parametrize(("count", "all_were_fed"), [(3, True), (4, True), (5, False)])
def test_a_stop_after_the_last_prompt_was_fed_still_completes(count: int, all_were_fed: bool) -> None:
    stop = FakeStop()
    engine = FakeEngine(4, _stopping(stop, after=1))
    complete, rows = _run([prompt(position) for position in range(count)], engine, stop)
    assert len(rows) == min(count, 4)
    assert complete is all_were_fed


def test_an_engine_that_dies_ends_the_run_with_its_error() -> None:
    def die(_flying: list[Request]) -> list[Request]:
        raise RuntimeError("it died")

    with pytest.raises(RuntimeError, match="it died"):
        _run([prompt(0)], FakeEngine(1, die))


def test_an_error_of_a_row_is_a_result_like_any_other() -> None:
    class Refusing(FakeEngine):
        def harvest(self) -> Sequence[Completion]:
            return [Completion(d.position, d.sample, None, "error", 0, "no") for d in super().harvest()]

    complete, (row,) = _run([prompt(0)], Refusing(1, _first))
    assert complete
    assert not row.answered
    assert row.completions == (Completion(0, 0, None, "error", 0, "no"),)


def test_the_row_of_a_prompt_that_failed_has_its_reason_in_every_sample() -> None:
    row = failed_row(Prompt(6, "text", (), 9, Failure("too_long", "no room")), 2)
    assert row == ResultRow(
        6, "text", 9, (Completion(6, 0, None, "too_long", 0, "no room"), Completion(6, 1, None, "too_long", 0, "no room"))
    )
    assert not row.answered


def test_a_prompt_that_can_be_answered_has_no_failed_row() -> None:
    with pytest.raises(ValueError, match="row 6 can be answered"):
        failed_row(prompt(6), 1)
