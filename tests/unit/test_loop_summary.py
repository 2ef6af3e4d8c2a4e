"""The table at the end, and the exit code."""

import inspect

import pytest

from job import errors
from scripts.environment import ROOT
from scripts.loop.summary import MEANINGS, Outcome, exit_code, facts, table

DONE = Outcome("org/a", 0, 334, 0, 20_000, 171_202, 98.4, "/data/a/0123", "me/a-results", "c0ffee", "334 rows")
FAILED = Outcome("org/b-longer", 78, seconds=2.0, message="MODEL_ID='org/b-longer': no model of this name")
LEFT = Outcome("org/c")


def codes(*given: int | None) -> list[Outcome]:
    return [Outcome("m", code) for code in given]


@pytest.mark.parametrize(
    ("given", "stopped", "code"),
    [
        ((0, 0), False, 0),
        ((0, 70, 0), False, 70),
        ((70, 0, 70), False, 70),
        ((70, 78), False, 1),
        ((0, 137), False, 137),
        ((0, 75, None), True, 75),
        ((0, None), True, 75),
        ((78, 75), True, 75),
        ((0, 0), True, 0),
    ],
)
def test_the_exit_code_is_that_of_all_failures_or_one(given: tuple[int | None, ...], stopped: bool, code: int) -> None:
    assert exit_code(codes(*given), stopped=stopped) == code


def test_the_table_has_a_line_for_each_model_and_says_why_one_failed() -> None:
    assert table([DONE, FAILED, LEFT]) == (
        "model         rows  failed   tokens  seconds  exit code          results\n"
        "org/a          334       0  171,202       98  0 done             me/a-results\n"
        "org/b-longer     -       -        -        2  78 settings wrong  -\n"
        "org/c            -       -        -        -  not started        -\n"
        "\n"
        "org/b-longer: MODEL_ID='org/b-longer': no model of this name"
    )


def test_results_that_are_not_published_are_a_folder() -> None:
    assert table([Outcome("m", 0, results=str(ROOT / "results" / "m"))]).endswith(" results/m")
    assert table([Outcome("m", 0, results="/data/m")]).endswith(" /data/m")


def test_a_program_gets_all_of_it() -> None:
    found = facts([DONE, LEFT], 75, 100.04)
    assert (found["exit_code"], found["seconds"]) == (75, 100.0)
    first, second = found["models"]
    assert (first["commit"], first["meaning"], first["completion_tokens"]) == ("c0ffee", "done", 171_202)
    assert (second["exit_code"], second["meaning"]) == (None, "not started")


def test_every_exit_code_of_the_job_has_a_meaning() -> None:
    raised = {cls.exit_code for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.JobError)}
    assert raised | {0} <= MEANINGS.keys()
    assert Outcome("m", 139).meaning == "see its log"
