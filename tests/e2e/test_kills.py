"""Real vLLM, ended in every way there is, again and again: nothing is left, and the answers are as if nothing had happened."""

import os
import random
import shlex
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import ENGINE
from tests.integration.kills import left_over
from tests.processes import alive, command_of, descendants
from tests.support import (
    JOB,
    Outcome,
    RunningJob,
    finished_rows,
    parquet_bytes,
    read_table,
    results_folder,
    run_job,
    running,
    write_jsonl,
)

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(900)]
ROWS = 24  # the endings leave about half of them unanswered
KILL_SECONDS = 30  # until Kubernetes sends SIGKILL by default: the grace is ten seconds shorter, for the engine to be closed
SHELL = ["sh", "-c", f"exec {shlex.join(JOB)}"]
BUSY_SHELL = ["setsid", "sh", "-c", f"{shlex.join(JOB)}; exit $?"]  # does not become the job, as the other one does
LEADER = ["setsid", *JOB]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to end the job. end: does it to a running one; code: of the job's last line, None where it can say none."""

    name: str
    end: Callable[[RunningJob], None]
    code: int | None
    command: Sequence[str] = tuple(JOB)
    loading: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """How it went. seconds: from the signal to the end; left: processes that were still there then; before, safe: rows."""

    outcome: Outcome
    seconds: float
    left: set[int]
    before: Mapping[int, tuple[object, ...]]
    safe: Mapping[int, tuple[object, ...]]


def sends(number: signal.Signals) -> Callable[[RunningJob], None]:
    return lambda job: job.process.send_signal(number)


def sends_group(number: signal.Signals) -> Callable[[RunningJob], None]:
    """To every process that a terminal, or a supervisor that ends what it started, would reach."""
    return lambda job: os.killpg(job.process.pid, number)


def kills_engine(job: RunningJob) -> None:
    cores = [pid for pid in descendants(job.process.pid) if "EngineCore" in command_of(pid)]
    assert cores
    for pid in cores:
        os.kill(pid, signal.SIGKILL)


WAYS = [
    Way("SIGKILL", sends(signal.SIGKILL), None),
    Way("SIGKILL of the engine", kills_engine, 70),
    Way("SIGTERM, while the model is loaded", sends(signal.SIGTERM), 75, loading=True),
    Way("SIGTERM, through sh -c", sends(signal.SIGTERM), 75, SHELL),
    Way("SIGTERM to the group, a shell's", sends_group(signal.SIGTERM), 75, BUSY_SHELL),
    Way("SIGINT to the group", sends_group(signal.SIGINT), 75, LEADER),
]


@pytest.fixture(scope="module")
def settings(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Sampled answers, two a row, two rows in flight, one row that is too long: all that an ending could disturb."""
    rows = [{"instruction": f"Write a short sentence with the number {number}."} for number in range(ROWS - 1)]
    dataset = write_jsonl(tmp_path_factory.mktemp("data") / "rows.jsonl", [*rows, {"instruction": "word " * 3000}])
    sampling = {"NUM_SAMPLES": 2, "MAX_TOKENS": 24, "SEED": 11, "MAX_FAILED_ROWS": 1, "CANARY": "false"}
    return {"MODEL_ID": model, "DATASET_ID": dataset, "ENGINE_ARGS": '{"max_num_seqs": 2}', **sampling, **ENGINE}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def endings(
    settings: dict[str, object], output: Path, temporary: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Ending]:
    """One run, ended in each of the ways, one after the other."""
    chance, logs = random.Random(7), tmp_path_factory.mktemp("logs")
    return {
        way.name: ended(way, {**settings, "OUTPUT_DIR": output, "TMPDIR": temporary}, logs / str(number), chance.randint(1, 2))
        for number, way in enumerate(WAYS)
    }


def ended(way: Way, variables: Mapping[str, object], log: Path, rows: int) -> Ending:
    """Start the job, and end it while it loads its model, or once it has answered so many more rows."""
    output = Path(str(variables["OUTPUT_DIR"]))
    wanted = len(finished_rows(output)) + rows
    with running(log, variables, way.command) as job:
        if way.loading:
            job.event("engine_starting")
            job.until(lambda: [pid for pid in descendants(job.process.pid) if "EngineCore" in command_of(pid)] or None)
        else:
            job.event("engine_ready", 120)
            job.until(lambda: len(finished_rows(output)) >= wanted or None)
        before, family = finished_rows(output), descendants(job.process.pid) | {job.process.pid}
        assert len(family) >= 3
        at = time.monotonic()
        way.end(job)
        outcome = job.end(60)
        # A shell that was sent the signal may be gone before the job that it started.
        while (left := alive(family)) and time.monotonic() - at < KILL_SECONDS:
            time.sleep(0.01)
        outcome = Outcome(outcome.code, job.events, outcome.stderr)
        return Ending(outcome, time.monotonic() - at, left, before, finished_rows(output))


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_an_ended_job_leaves_no_process_and_loses_no_row(way: Way, endings: dict[str, Ending]) -> None:
    ending = endings[way.name]
    assert ending.left == set()
    assert ending.before.items() <= ending.safe.items()
    assert len(ending.safe) < ROWS, "nothing was left to be ended"


@pytest.mark.parametrize("way", [way for way in WAYS if way.code == 75], ids=lambda way: way.name)
def test_a_signal_ends_the_job_with_75_within_the_grace(way: Way, endings: dict[str, Ending]) -> None:
    ending = endings[way.name]
    assert ending.outcome.code in ((75,) if way.command is not BUSY_SHELL else (-signal.SIGTERM,)), ending.outcome.last
    assert ending.outcome.last["event"] == "run_finished"
    assert ending.outcome.last["exit_code"] == 75
    assert f": {len(ending.safe)} of {ROWS} rows are safe in " in ending.outcome.last["message"]
    assert ending.seconds < KILL_SECONDS
    assert len(ending.outcome.of("shutdown_requested")) == (not way.loading), "rows in flight are waited for"
    assert bool(ending.outcome.of("engine_ready")) is not way.loading


def test_the_engines_death_ends_the_job_with_70_in_seconds(endings: dict[str, Ending], output: Path) -> None:
    ending = endings["SIGKILL of the engine"]
    assert ending.outcome.code == ending.outcome.last["exit_code"] == 70
    assert ending.seconds < 10
    message = ending.outcome.last["message"]
    assert message.startswith("vLLM died: EngineCore was killed with SIGKILL, by a person or another program")
    safe = f"{len(ending.safe)} of {ROWS} rows are safe in {results_folder(output)}."
    assert message.endswith(f"The same command goes on. {safe}")


def test_the_run_goes_on_to_the_same_bytes(
    settings: dict[str, object], output: Path, endings: dict[str, Ending], tmp_path: Path
) -> None:
    undisturbed = run_job(**settings, OUTPUT_DIR=tmp_path / "undisturbed")
    assert undisturbed.code == 0, undisturbed.last
    expected = results_folder(tmp_path / "undisturbed")
    rows = read_table(expected).to_pylist()
    assert [len(row["answers"]) for row in rows] == [2] * ROWS
    assert rows[-1]["finish_reason"] == ["too_long", "too_long"]

    safe = finished_rows(output)
    last = run_job(**settings, OUTPUT_DIR=output)
    assert last.code == 0, last.last
    assert last.last["generated_rows"] == ROWS - len(safe)
    assert safe.items() <= finished_rows(output).items()
    assert parquet_bytes(results_folder(output)) == parquet_bytes(expected)


def test_no_temporary_file_is_left(endings: dict[str, Ending], temporary: Path) -> None:
    assert len(endings) == len(WAYS)
    assert left_over(temporary) == []
