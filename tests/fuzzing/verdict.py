"""What every case must show, however odd its input is."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.fuzzing.case import Case
from tests.fuzzing.worker import STARTS_AGAIN, Outcome

DOCUMENTED = frozenset({0, 65, 69, 70, 73, 75, 77, 78})  # 1 is a bug, see job/errors.py
DAMAGED = 73
RUN_FOLDER_CODES = frozenset({0, DAMAGED})
SECRET = "ToBe".join(["never", "Shown"])  # nowhere as a whole: hypothesis also draws what it finds in sources
MEMORY_BYTES = 1_500 * 2**20  # beside the process itself; what a template may take, and a margin
SECONDS = 15.0  # of the processor
OUTPUT = "results"  # where runs of the area `run folders` write to


def last_line(outcome: Outcome) -> dict[str, Any]:
    """The canonical line as the log has it, empty where the last line is another. On a console it is not JSON."""
    line = outcome.out.rstrip("\n").rpartition("\n")[2]
    try:
        fields = json.loads(line)
    except ValueError:
        found = re.search(r"run_finished .*\bexit_code=(\d+)", line)
        return {"exit_code": int(found[1]), "message": line} if found else {}
    return fields if isinstance(fields, dict) and fields.get("event") == "run_finished" else {}


def violations(case: Case, outcome: Outcome, reference: bytes) -> Iterator[str]:
    """What the case shows that it must not; the same mistake of the job reads the same whichever case shows it.

    reference: the results of an undisturbed run.
    """
    if outcome.code is None:
        yield "hangs"
    elif outcome.code < 0:
        yield f"was ended by signal {-outcome.code}"
    else:
        last = last_line(outcome)
        yield from _end(outcome, last)
        yield from _side_effects(outcome)
        if case.start:
            yield from _run_folder(outcome, last, reference)


def _end(outcome: Outcome, last: dict[str, Any]) -> Iterator[str]:
    """An exit code with a meaning, and the line that explains it."""
    said = outcome.out + outcome.err
    if "Traceback" in said:
        yield f"traceback: {_bug(outcome)}"
    elif outcome.code not in DOCUMENTED:
        yield f"exit code {outcome.code}"
    elif last.get("exit_code") != outcome.code or not last.get("message"):
        yield "the last line is no run_finished with this exit code and a message"
    if outcome.err and "Traceback" not in outcome.err:
        yield f"standard error: {outcome.err[:80]!r}"
    if SECRET in said:
        yield "says the secret"


def _side_effects(outcome: Outcome) -> Iterator[str]:
    if outcome.seconds > SECONDS:
        yield "is slow"
    if outcome.peak > MEMORY_BYTES:
        yield "eats memory"
    if outcome.threads:
        yield f"leaves threads: {sorted(set(outcome.threads))}"
    if outcome.beside:
        yield "writes outside of its folders"


def _run_folder(outcome: Outcome, last: dict[str, Any], reference: bytes) -> Iterator[str]:
    """A damaged run folder is said to be so, or the results are as if nothing had happened."""
    if outcome.code not in RUN_FOLDER_CODES:
        yield f"exit code {outcome.code} for a damaged run folder"
    if outcome.again >= STARTS_AGAIN:
        yield "asks for the same command again and again"
    if outcome.code == 0 and outcome.parquet != reference:
        yield "other results than those of an undisturbed run"
    if outcome.code == DAMAGED and f"{OUTPUT}/" not in last.get("message", ""):
        yield "does not name the file"


def _bug(outcome: Outcome) -> str:
    """The exception and the job's line that it came from."""
    last = last_line(outcome)
    text = str(last.get("exception") or outcome.out + outcome.err)
    frames = re.findall(r'/(job/[\w/]+\.py)"?,? line (\d+), in (\w+)', text) or re.findall(
        r'/(\w+\.py)", line (\d+)(, in \w+)', text
    )
    error = re.findall(r"^([\w.]+(?:Error|Exception|Exceeded|Warning|Invalid)\b)", text, re.MULTILINE)
    return f"{error[-1] if error else '?'} in {' '.join(frames[-1]) if frames else '?'}"
