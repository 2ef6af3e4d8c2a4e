import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.lengths import Lengths, of_answers
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


def _counts(lengths: Sequence[int], reasons: dict[str, int], runaway_tokens: int, completion_tokens: int) -> dict[str, Any]:
    """As a manifest has them."""
    return {
        "lengths": {str(tokens): answers for tokens, answers in Counter(lengths).items()},
        "finish_reasons": reasons,
        "runaway_tokens": runaway_tokens,
        "completion_tokens": completion_tokens,
    }


def test_a_few_endless_answers_are_told_with_what_they_cost() -> None:
    lengths = [50] * 324 + [4096] * 10
    found = of_answers(_counts(lengths, {"length": 8, "repetition": 2, "stop": 324, "error": 3}, 40960, 57160))
    assert found.told == "10 of 334 answers (3.0 %), 71.7 % of the generated tokens"
    assert (found.answers, found.runaways, found.runaway_tokens, found.longest_tokens) == (334, 10, 40960, 4096)
    assert (found.median_tokens, found.p95_tokens, found.p99_tokens) == (50, 50, 4096)
    assert found.are_notable


def test_where_nothing_was_answered_nothing_is_divided_by() -> None:
    found = of_answers(_counts([], {"error": 3}, 0, 0))
    assert found.told == "0 of 0 answers (0.0 %), 0.0 % of the generated tokens"
    assert (found.median_tokens, found.longest_tokens, found.are_notable) == (0, 0, False)


@pytest.mark.parametrize(
    ("runaways", "tokens", "notable"), [(0, 0, False), (9, 999, False), (10, 0, True), (9, 1000, True), (1, 9000, True)]
)
def test_runaways_are_notable_from_a_hundredth_of_the_answers_or_a_tenth_of_the_tokens(
    runaways: int, tokens: int, notable: bool
) -> None:
    counts = _counts([10] * 1000, {"length": runaways, "stop": 1000 - runaways}, tokens, 10_000)
    assert of_answers(counts).are_notable is notable


@given(st.lists(st.integers(0, 300), min_size=1, max_size=200))
def test_a_percentile_is_the_shortest_length_that_so_many_do_not_exceed(lengths: list[int]) -> None:
    found, ordered = of_answers(_counts(lengths, {}, 0, sum(lengths))), sorted(lengths)
    for percent, tokens in ((50, found.median_tokens), (95, found.p95_tokens), (99, found.p99_tokens)):
        assert tokens == ordered[math.ceil(len(ordered) * percent / 100) - 1]
    assert found.longest_tokens == ordered[-1]
