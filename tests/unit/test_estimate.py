import json
import os
from pathlib import Path
from typing import Any

import pytest

from job.estimate import NOTHING_TO_DO, Estimate, estimate
from job.lengths import Lengths
from tests.unit.builders import prompt, settings

FACTS: dict[str, Any] = {"engine": {"name": "vllm"}, "prompt": {"template": "chat"}, "sampling": {"max_tokens": 4096}}


def _run(folder: Path, name: str, *, age: float = 0, **changes: Any) -> Path:
    """A finished run of 10 rows with 20 tokens each, at 50 tokens a second."""
    facts: dict[str, Any] = {
        "identity": {"facts": FACTS},
        "generated_rows": 10,
        "counts": {"rows": 10, "finish_reasons": {"stop": 8, "length": 2}, "completion_tokens": 200},
        "seconds": {"generation": 4.0},
    }
    path = folder / name / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(facts | changes), encoding="utf-8")
    os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
    return path


def _lengths(rows: int, limit: int = 100) -> Lengths:
    lengths = Lengths(limit)
    list(lengths.count(prompt(position) for position in range(rows)))
    return lengths


def _likely(folder: Path, rows: int = 30, **variables: object) -> tuple[int | None, float | None]:
    found = estimate(settings(MAX_MODEL_LEN=100, **variables), FACTS, _lengths(rows), folder)
    return found.likely_completion_tokens, found.likely_generation_seconds


def test_without_an_earlier_run_only_the_bound_is_known(tmp_path: Path) -> None:
    found = estimate(settings(MAX_MODEL_LEN=100, MAX_TOKENS=40), FACTS, _lengths(3), tmp_path / "nothing")
    assert found == Estimate(3, 0, "prompt 0", 9, 120, None, None)


def test_samples_multiply_the_answers(tmp_path: Path) -> None:
    _run(tmp_path, "a")
    found = estimate(settings(MAX_MODEL_LEN=100, MAX_TOKENS=40, NUM_SAMPLES=4), FACTS, _lengths(3), tmp_path)
    assert (found.rows, found.most_completion_tokens, found.likely_completion_tokens) == (3, 480, 240)


def test_the_last_run_of_the_model_tells_what_is_likely(tmp_path: Path) -> None:
    _run(tmp_path, "a")
    assert _likely(tmp_path) == (600, 12.0)


def test_what_is_likely_is_no_more_than_what_is_possible(tmp_path: Path) -> None:
    _run(tmp_path, "a")
    assert _likely(tmp_path, MAX_TOKENS=5) == (150, 3.0)


def test_the_newest_run_counts(tmp_path: Path) -> None:
    _run(tmp_path, "a", age=100, seconds={"generation": 400})
    _run(tmp_path, "b")
    assert _likely(tmp_path) == (600, 12.0)


COUNTS = {"rows": 10, "finish_reasons": {"stop": 10}, "completion_tokens": 200}
UNUSABLE: dict[str, dict[str, Any]] = {
    "resumed, so that its time is of a part": {"generated_rows": 4},
    "without an answer": {"counts": COUNTS | {"finish_reasons": {}}},
    "with empty answers": {"counts": COUNTS | {"completion_tokens": 0}},
    "without a time": {"seconds": {}},
    "in no time": {"seconds": {"generation": 0}},
    "without counts": {"counts": None},
    "with counts of another shape": {"counts": COUNTS | {"finish_reasons": [1]}},
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_run_that_tells_nothing_of_the_speed_is_passed_over(tmp_path: Path, case: str) -> None:
    _run(tmp_path, "b", **UNUSABLE[case])
    assert _likely(tmp_path) == (None, None)
    _run(tmp_path, "a", age=100)
    assert _likely(tmp_path) == (600, 12.0)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"null"])
def test_a_manifest_that_cannot_be_read_is_passed_over(tmp_path: Path, content: bytes) -> None:
    path = _run(tmp_path, "b")
    path.write_bytes(content)
    _run(tmp_path, "a", age=100)
    assert _likely(tmp_path) == (600, 12.0)


def test_a_run_is_not_looked_at_through_the_link_to_the_latest(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    _run(tmp_path / "elsewhere", "a")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "latest").symlink_to(tmp_path / "elsewhere" / "a")
    assert _likely(tmp_path / "model") == (None, None)


def test_no_rows_are_no_work(tmp_path: Path) -> None:
    _run(tmp_path, "a")
    assert _likely(tmp_path, rows=0) == (0, 0.0)
    assert Estimate(0, 0, None, 0, 0) == NOTHING_TO_DO


@pytest.mark.parametrize(
    ("changed", "alike"),
    [
        ({"engine": {"name": "echo"}}, False),
        ({"prompt": {"template": "alpaca"}}, False),
        ({"sampling": {"max_tokens": 96}}, False),
        ({"sampling": {"max_tokens": 8192}}, True),
        ({"dataset": {"commit": "another"}}, True),
    ],
)
def test_only_a_run_that_is_alike_tells_what_is_likely(tmp_path: Path, changed: dict[str, Any], alike: bool) -> None:
    _run(tmp_path, "a", identity={"facts": FACTS | changed})
    assert (_likely(tmp_path) != (None, None)) is alike
