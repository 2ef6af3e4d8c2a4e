"""What people are shown of an event, and what they are spared."""

from typing import Any

import pytest

from job.console import for_people

CONTEXT = {"run_id": "0123456789ab", "model": "SmolLM2", "shard": "0/1"}


def shown(name: str, **fields: object) -> dict[str, Any]:
    event = {"timestamp": "12:00:00", "level": "info", "logger": "job.plan", "event": name, **fields}
    return {key: value for key, value in for_people(None, "info", event).items() if key not in ("timestamp", "level")}


def test_whose_lines_these_are_is_said_once() -> None:
    assert shown("planned", rows=3, **CONTEXT) == {"event": "planned", "rows": 3, **CONTEXT}
    assert shown("results_written", rows=3, **CONTEXT) == {"event": "results_written", "rows": 3}


def test_what_was_said_before_is_not_said_again() -> None:
    seconds = {"seconds_by_phase": {"plan": 1.0}}
    assert shown("engine_ready", device="cpu", canary={"judged": 8}, **seconds) == {"event": "engine_ready", "device": "cpu"}
    assert shown("run_finished", rows=3, results="x", answers={"answers": 3}, **seconds) == {"event": "run_finished", "rows": 3}
    assert "seconds_by_phase" in shown("it_happened", **seconds)


def test_the_message_follows_the_name_whole_and_in_one_line() -> None:
    message = "STOP: wrong\n  and " + "long " * 50 + "end"
    (event,) = shown("run_finished", message=message).values()
    assert event == f"run_finished         {' '.join(message.split())}"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, 3),
        (True, True),
        (0, 0),
        (False, False),
        (31.07, "31.1"),
        (0.35912, "0.359"),
        (["a", "b"], "a, b"),
        ({"plan": 0.359, "generation": 120.04, "none": None}, "plan 0.359, generation 120.0"),
        ({"seconds": {"engine": 1.5}}, "seconds engine 1.5"),
        ("sha256:" + "0123456789ab" * 5, "sha256:0123456789ab…"),
        ("0123456789ab", "0123456789ab"),
        ("x" * 101, "x" * 101),
        (["x" * 100], "x" * 100),
        (["x" * 101], "x" * 99 + "…"),
    ],
)
def test_values_are_short(value: object, words: object) -> None:
    assert shown("it_happened", field=value) == {"event": "it_happened", "field": words}


@pytest.mark.parametrize("value", [None, "", [], (), {}])
def test_what_says_nothing_is_left_out(value: object) -> None:
    assert shown("it_happened", field=value) == {"event": "it_happened"}


def test_loggers_of_others_are_named() -> None:
    assert shown("old thing", logger="py.warnings")["logger"] == "py.warnings"
    assert shown("old thing", logger="jobs")["logger"] == "jobs"


def test_a_traceback_is_left_as_it_is() -> None:
    error = (ValueError, ValueError("x" * 200), None)
    assert shown("failed", exc_info=error, stack="y" * 200) == {"event": "failed", "exc_info": error, "stack": "y" * 200}
