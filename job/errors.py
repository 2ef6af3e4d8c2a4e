"""The errors that end a run on purpose. Each class owns the exit code that tells the operator what to do.

    JobError
    +-- SettingsError       78  a variable is missing, wrong or contradicts another
    +-- DatasetError        65  the dataset or one of its columns cannot be used
    +-- FailedRowsError     65  more rows failed than MAX_FAILED_ROWS allows
    +-- HubUnavailableError 69  the Hub did not answer; try again later
    +-- AccessError         77  the Hub refused: token, gated repo or missing right
    +-- EngineError         70  the engine did not start, died, or does not keep what was promised
    +-- OutputError         73  the output folder cannot be written, or holds a damaged file
    +-- StoppedError        75  stopped by a signal, to be resumed
    +-- RunLockedError      75  another process works on the same run

Anything else that escapes is a bug and ends with exit code 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class JobError(Exception):
    """A failure with a known cause: the message names what was wrong and what to do about it."""

    exit_code = 1

    @property
    def message(self) -> str:
        """What to tell the operator: the error itself, and what was noted on it on its way up."""
        return " ".join([str(self), *getattr(self, "__notes__", ())])


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the settings: the variable, its value as given (None where unset or secret), and the remedy."""

    variable: str
    value: str | None
    message: str

    def __str__(self) -> str:
        given = "" if self.value is None else f"={self.value!r}"
        return f"{self.variable}{given}: {self.message}"


class SettingsError(JobError):
    """All problems of the settings, reported together."""

    exit_code = 78

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in problems))


class DatasetError(JobError):
    exit_code = 65


class FailedRowsError(JobError):
    exit_code = 65


class HubUnavailableError(JobError):
    exit_code = 69


class EngineError(JobError):
    exit_code = 70


class OutputError(JobError):
    exit_code = 73


class StoppedError(JobError):
    exit_code = 75


class RunLockedError(JobError):
    exit_code = 75


class AccessError(JobError):
    exit_code = 77
