from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.lengths import Lengths
from job.records import Failure, Prompt


def _prompts(lengths: Sequence[int]) -> list[Prompt]:
    return [Prompt(position, f"prompt {position}", [0] * length, length) for position, length in enumerate(lengths)]


def _counted(limit: int, lengths: Sequence[int]) -> Lengths:
    counted = Lengths(limit)
    assert list(counted.count(_prompts(lengths))) == _prompts(lengths)
    return counted


def test_without_prompts_there_is_nothing() -> None:
    lengths = _counted(128, [])
    assert (lengths.rows, lengths.failed_rows, lengths.first, lengths.total) == (0, 0, None, 0)
    assert lengths.room(100) == 0
    assert lengths.histogram() == {}


def test_prompts_pass_by_one_at_a_time() -> None:
    lengths = Lengths(128)
    passing = lengths.count(iter(_prompts([5, 7])))
    assert lengths.rows == 0
    assert next(passing).position == 0
    assert (lengths.rows, lengths.total) == (1, 5)


def test_rows_that_cannot_be_answered_count_apart() -> None:
    failed = Prompt(0, None, [], 0, Failure("error", "column instruction is null"))
    long = Prompt(1, "long", [0] * 500, 500, Failure("too_long", "no room"))
    lengths = Lengths(128)
    list(lengths.count([failed, long, *_prompts([9])]))
    assert (lengths.rows, lengths.failed_rows, lengths.total) == (1, 2, 9)
    assert lengths.first == "prompt 0"
    assert lengths.histogram() == {"<=16": 1}


def test_each_answer_has_the_room_that_its_prompt_leaves() -> None:
    lengths = _counted(100, [10, 10, 95])
    assert lengths.room(1000) == 90 + 90 + 5
    assert lengths.room(50) == 50 + 50 + 5
    assert lengths.room(1) == 3


@pytest.mark.parametrize(
    ("limit", "lengths", "histogram"),
    [
        (4096, [1, 2, 3, 64, 65, 4095], {"<=1": 1, "<=2": 1, "<=4": 1, "<=64": 1, "<=128": 1, "<=4096": 1}),
        (100, [64, 65, 99, 100], {"<=64": 1, "<=100": 3}),
        (128, [128, 127], {"<=128": 2}),
        (2, [1, 1], {"<=1": 2}),
        (3, [3], {"<=3": 1}),
    ],
)
def test_the_histogram_doubles_up_to_the_limit(limit: int, lengths: list[int], histogram: dict[str, int]) -> None:
    assert _counted(limit, lengths).histogram() == histogram
    assert list(_counted(limit, lengths).histogram()) == list(histogram)


@given(st.integers(2, 10_000).flatmap(lambda limit: st.tuples(st.just(limit), st.lists(st.integers(1, limit)))))
def test_every_row_is_in_exactly_one_bar(given_rows: tuple[int, list[int]]) -> None:
    limit, lengths = given_rows
    counted = _counted(limit, lengths)
    bars = {int(name.removeprefix("<=")): rows for name, rows in counted.histogram().items()}
    assert sum(bars.values()) == counted.rows == len(lengths)
    for bound, rows in bars.items():
        below = 2 ** ((bound - 1).bit_length() - 1) if bound > 1 else 0
        assert rows == sum(below < length <= bound for length in lengths)
    assert max(bars, default=0) <= limit
    assert counted.total == sum(lengths)
