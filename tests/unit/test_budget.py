import json
from pathlib import Path
from typing import Any

import pytest

from job.budget import Budget, Spent, of_manifest
from job.spending import SPENT, Spending


def spent(seconds: float, gpus: int = 1, earlier_rows: int = 0) -> Spent:
    return Spent(seconds=seconds, gpus=gpus, earlier_rows=earlier_rows)


def test_gpu_seconds_are_those_of_every_process_for_each_gpu_that_it_held() -> None:
    budget = Budget.of([spent(100, 2), spent(50.5, 4, earlier_rows=10)], 4020, 3.6)
    assert budget is not None
    assert budget.model_dump() == {
        "processes": 2,
        "complete": True,
        "seconds": 150.5,
        "gpu_seconds": 402.0,
        "tokens_per_gpu_second": 10.0,
        "gpu_price_per_hour": 3.6,
        "cost": 0.402,
    }


def test_without_a_price_nothing_is_said_of_cost() -> None:
    budget = Budget.of([spent(100)], 100, None)
    assert budget is not None
    assert (budget.gpu_price_per_hour, budget.cost, budget.tokens_per_gpu_second) == (None, None, 1.0)


def test_without_a_gpu_there_are_seconds_and_no_cost() -> None:
    budget = Budget.of([spent(100, 0)], 100, 3.6)
    assert budget is not None
    assert (budget.seconds, budget.gpu_seconds, budget.tokens_per_gpu_second) == (100, 0, None)
    assert (budget.gpu_price_per_hour, budget.cost) == (None, None)


def test_rows_from_before_the_first_known_process_make_the_figures_too_small() -> None:
    budget = Budget.of([spent(100, earlier_rows=1), spent(50, earlier_rows=5)], 100, 36)
    assert budget is not None
    assert (budget.complete, budget.gpu_seconds, budget.cost, budget.tokens_per_gpu_second) == (False, 150, 1.5, None)


def test_what_nobody_noted_is_nothing() -> None:
    assert Budget.of([], 100, 3.6) is None
    assert Budget.joined([None, None], 100) is None


def test_shards_are_added_up() -> None:
    parts = [Budget.of([spent(100, 2)], 10, 36), Budget.of([spent(10), spent(20, earlier_rows=3)], 10, 36)]
    whole = Budget.joined(parts, 460)
    assert whole is not None
    assert (whole.processes, whole.complete, whole.seconds, whole.gpu_seconds) == (3, True, 130, 230)
    assert (whole.tokens_per_gpu_second, whole.gpu_price_per_hour, whole.cost) == (2.0, 36, 2.3)


def test_a_shard_that_noted_nothing_makes_the_whole_too_small() -> None:
    whole = Budget.joined([Budget.of([spent(100)], 10, 36), None], 460)
    assert whole is not None
    assert (whole.complete, whole.gpu_seconds, whole.tokens_per_gpu_second) == (False, 100, None)


@pytest.mark.parametrize(("other", "price", "cost"), [(72, None, 3.0), (None, None, None)])
def test_shards_of_several_prices_have_a_cost_and_no_price(
    other: float | None, price: float | None, cost: float | None
) -> None:
    whole = Budget.joined([Budget.of([spent(100)], 10, 36), Budget.of([spent(100)], 10, other)], 10)
    assert whole is not None
    assert (whole.gpu_price_per_hour, whole.cost) == (price, cost)


def test_a_price_may_come_later() -> None:
    budget = Budget.of([spent(100)], 100, None)
    assert budget is not None
    assert budget.priced(72).cost == 2.0
    assert budget.priced(72).priced(None).cost == 2.0


@pytest.mark.parametrize(
    "found", [None, "x", 3, {}, {"processes": 0}, {"processes": 1, "complete": True, "seconds": 1, "gpu_seconds": "|"}]
)
def test_a_budget_that_is_none_is_none(found: object) -> None:
    assert of_manifest({"budget": found}) is None
    assert of_manifest({}) is None


def test_a_budget_is_read_as_it_was_written() -> None:
    budget = Budget.of([spent(100, 2)], 10, 36)
    assert budget is not None
    assert of_manifest(json.loads(json.dumps({"budget": budget.model_dump()}))) == budget


class Process:
    """A process that works on the shard in a folder."""

    def __init__(self, folder: Path, earlier_rows: int = 0) -> None:
        self.seconds = 0.0
        self.facts: dict[str, Any] = {}
        self.spending = Spending(folder, lambda: self.seconds, lambda: self.facts, earlier_rows)


def noted(folder: Path) -> Any:
    path = folder / SPENT
    return json.loads(path.read_text())["processes"] if path.exists() else None


def test_a_process_that_loads_no_model_notes_nothing(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.seconds = 5
    process.spending.note()
    process.spending.write()
    assert noted(tmp_path) is None
    assert process.spending.processes == []


def test_what_a_killed_process_noted_is_there_for_the_next_one(tmp_path: Path) -> None:
    killed = Process(tmp_path)
    killed.facts, killed.seconds = {"gpus": 2}, 31.0
    killed.spending.note()
    killed.seconds = 33.0  # too soon to be noted
    killed.spending.note()
    next_one = Process(tmp_path, earlier_rows=7)
    next_one.facts, next_one.seconds = {"gpus": 1}, 4.5
    assert next_one.spending.processes == [spent(31, 2), spent(4.5, 1, earlier_rows=7)]
    next_one.spending.write()
    assert [each["seconds"] for each in noted(tmp_path)] == [31.0, 4.5]
    assert Process(tmp_path, earlier_rows=9).spending.processes == next_one.spending.processes


def test_it_is_noted_again_after_some_seconds_and_at_the_end(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.facts = {"gpus": 1}
    seen = []
    for process.seconds in (1.0, 5.0, 10.9, 11.0, 20.0, 21.0):
        process.spending.note()
        seen.append(noted(tmp_path)[0]["seconds"])
    assert seen == [1.0, 1.0, 1.0, 11.0, 11.0, 21.0]
    process.seconds = 22.0
    process.spending.write()
    assert noted(tmp_path) == [{"seconds": 22.0, "gpus": 1, "earlier_rows": 0}]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"processes": [{"seconds": -1, "gpus": 1, "earlier_rows": 0}]}'])
def test_a_damaged_account_counts_as_none(content: str, tmp_path: Path) -> None:
    (tmp_path / SPENT).write_text(content)
    process = Process(tmp_path, earlier_rows=3)
    process.facts, process.seconds = {"device": "cpu"}, 2.0
    assert process.spending.processes == [spent(2, 0, earlier_rows=3)]


@pytest.mark.parametrize("gpus", [-1, "8", 1.5, None])
def test_what_is_no_number_of_gpus_counts_as_none(gpus: object, tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.facts = {"gpus": gpus}
    process.spending.write()
    assert noted(tmp_path)[0]["gpus"] == 0


def test_facts_that_cannot_be_read_end_nothing(tmp_path: Path) -> None:
    def unreadable() -> dict[str, object]:
        raise PermissionError

    Spending(tmp_path, lambda: 1.0, unreadable, 0).note()
    assert noted(tmp_path) is None


def test_a_disk_that_does_not_take_it_ends_nothing(tmp_path: Path) -> None:
    process = Process(tmp_path / "gone")
    process.facts = {"gpus": 1}
    process.spending.write()
    assert process.spending.processes == [spent(0, 1)]
