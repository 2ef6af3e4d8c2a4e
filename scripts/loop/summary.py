"""What came of each model: as a table for people, as JSON, and as one exit code."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from job.errors import StoppedError
from scripts.environment import ROOT

STOPPED = StoppedError.exit_code
MEANINGS = {
    0: "done",
    1: "a bug",
    65: "dataset or rows unusable",
    69: "Hub unavailable",
    70: "engine failed",
    73: "cannot write",
    75: "stopped, to be resumed",
    77: "no access",
    78: "settings wrong",
    125: "container not started",
    126: "command not started",
    127: "command not started",
    130: "ended by SIGINT",
    137: "killed: out of memory?",
    143: "ended by SIGTERM",
}
_FAILED = 1
_COLUMNS = ("model", "rows", "failed", "tokens", "seconds", "exit code", "results")
_NUMBERS = range(1, 5)


@dataclass(frozen=True)
class Outcome:
    """How one model ended; None stands for what the job did not say.

    exit_code: None where it was not started; rows: finished ones that are safe; results: the folder with them.
    """

    model: str
    exit_code: int | None = None
    rows: int | None = None
    failed_rows: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    results: str | None = None
    repo_id: str | None = None
    commit: str | None = None
    message: str = ""
    log: str | None = None

    @property
    def meaning(self) -> str:
        if self.exit_code is None:
            return "not started"
        return MEANINGS.get(self.exit_code, "see its log")


def exit_code(outcomes: Sequence[Outcome], *, stopped: bool) -> int:
    """0 where every model is done; 75 where a signal kept one from that; else the code that all failures share, or 1."""
    failures = {outcome.exit_code for outcome in outcomes} - {0}
    if not failures:
        return 0
    if stopped:
        return STOPPED
    (first, *others) = failures
    return first if first is not None and not others else _FAILED


def table(outcomes: Sequence[Outcome]) -> str:
    """One line for each model, and under it what those that failed said last."""
    rows = [_COLUMNS, *(_row(outcome) for outcome in outcomes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_aligned(cell, number, widths[number]) for number, cell in enumerate(row)).rstrip() for row in rows]
    failures = [f"{outcome.model}: {outcome.message}" for outcome in outcomes if outcome.exit_code and outcome.message]
    return "\n".join([*lines, *([""] if failures else []), *failures])


def facts(outcomes: Sequence[Outcome], code: int, seconds: float) -> Mapping[str, Any]:
    """All of it, for a program."""
    models = [asdict(outcome) | {"meaning": outcome.meaning} for outcome in outcomes]
    return {"exit_code": code, "seconds": round(seconds, 1), "models": models}


def shown(path: str | Path) -> str:
    """A path for people, who are in the project's folder."""
    return str(Path(path).relative_to(ROOT) if Path(path).is_relative_to(ROOT) else path)


def _row(outcome: Outcome) -> tuple[str, ...]:
    return (
        outcome.model,
        *(_number(value) for value in (outcome.rows, outcome.failed_rows, outcome.completion_tokens, outcome.seconds)),
        outcome.meaning if outcome.exit_code is None else f"{outcome.exit_code} {outcome.meaning}",
        outcome.repo_id or (shown(outcome.results) if outcome.results else "-"),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _aligned(cell: str, column: int, width: int) -> str:
    return cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
