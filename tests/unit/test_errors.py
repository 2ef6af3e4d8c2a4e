import re

import pytest

from job import errors
from job.errors import JobError, Problem, SettingsError

CODES = {
    "SettingsError": 78,
    "DatasetError": 65,
    "FailedRowsError": 65,
    "HubUnavailableError": 69,
    "AccessError": 77,
    "EngineError": 70,
    "OutputError": 73,
    "StoppedError": 75,
    "RunLockedError": 75,
}


def test_each_error_has_its_exit_code() -> None:
    assert {cls.__name__: cls.exit_code for cls in JobError.__subclasses__()} == CODES


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    drawn = re.findall(r"\+-- (\w+) +(\d+) ", errors.__doc__ or "")
    assert {name: int(code) for name, code in drawn} == CODES


def test_what_was_noted_on_an_error_is_told_too() -> None:
    error = JobError("it broke.")
    assert error.message == "it broke."
    error.add_note("2 rows are safe.")
    error.add_note("Try again.")
    assert error.message == "it broke. 2 rows are safe. Try again."


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("SEED", "-1", "is negative"), "SEED='-1': is negative"),
        (Problem("HF_TOKEN", None, "is wrong"), "HF_TOKEN: is wrong"),
        (Problem("STOP", "", "is empty"), "STOP='': is empty"),
        (Problem("STOP", "a\nb", "has a line break"), "STOP='a\\nb': has a line break"),
    ],
)
def test_a_problem_reads_as_one_line(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_a_settings_error_lists_all_problems() -> None:
    error = SettingsError([Problem("A", None, "is missing"), Problem("B", "x", "is no number")])
    assert str(error) == "A: is missing; B='x': is no number"
    assert [problem.variable for problem in error.problems] == ["A", "B"]
