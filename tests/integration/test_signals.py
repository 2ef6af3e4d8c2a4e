"""SIGTERM and SIGINT: the job stops soon, says what is safe, and goes on from there when it is started again."""

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.kills import snapshot
from tests.processes import descendants
from tests.support import ECHO, JOB, RunningJob, finished_rows, parquet_bytes, results_folder, run_job, running, write_jsonl

pytestmark = pytest.mark.slow
ROWS = 240
WINDOW = 16
LONG = 0.8  # seconds a row, for a signal to come while the first rows are still being answered
LONG_ROWS = 3 * WINDOW
Settings = dict[str, object]
Undisturbed = Callable[[Settings], bytes]


def settings(folder: Path, *, rows: int = ROWS, delay: float = 0.05, **more: object) -> Settings:
    data = write_jsonl(folder / "rows.jsonl", [{"instruction": f"Count to {number}."} for number in range(rows)])
    switches = json.dumps({"delay_seconds": delay, "window": WINDOW})
    return {**ECHO, "DATASET_ID": data, "ENGINE_ARGS": switches, "OUTPUT_DIR": folder / "results", **more}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The bytes that a run comes to when nothing stops it."""
    known: dict[str, bytes] = {}

    def run_through(run: Settings) -> bytes:
        data = Path(str(run["DATASET_ID"])).read_text(encoding="utf-8")
        key = json.dumps([data, run["ENGINE_ARGS"], run.get("NUM_SAMPLES")])
        if key not in known:
            output = tmp_path_factory.mktemp("undisturbed")
            assert run_job(**{**run, "OUTPUT_DIR": output}).code == 0
            known[key] = parquet_bytes(results_folder(output))
        return known[key]

    return run_through


def some_finished(job: RunningJob, output: Path, rows: int) -> None:
    job.until(lambda: len(finished_rows(output)) >= rows or None)


@pytest.mark.parametrize(("number", "samples"), [(signal.SIGTERM, 1), (signal.SIGINT, 3)], ids=["SIGTERM", "SIGINT, 3 samples"])
def test_a_stopped_run_is_resumed_to_the_same_bytes(
    number: signal.Signals, samples: int, tmp_path: Path, output: Path, undisturbed: Undisturbed
) -> None:
    run = settings(tmp_path, rows=ROWS // samples, NUM_SAMPLES=samples)
    rows = ROWS // samples
    with running(tmp_path / "log", run) as job:
        some_finished(job, output, rows // 8)
        job.process.send_signal(number)
        stopped = job.end()
    safe = finished_rows(output)
    assert rows // 8 <= len(safe) < rows
    assert stopped.code == stopped.last["exit_code"] == 75
    assert stopped.last["event"] == "run_finished"
    assert stopped.last["message"] == (
        f"stopped by {number.name}: {len(safe)} of {rows} rows are safe in {results_folder(output)}. "
        "Run the same command again to go on."
    )
    assert [event["signal"] for event in stopped.of("shutdown_requested")] == [number.name]
    assert not (results_folder(output) / "data").exists()
    assert stopped.stderr == ""
    resumed = run_job(**run)
    assert resumed.code == 0
    assert resumed.of("resume_found")[0]["rows_done"] == len(safe)
    assert resumed.last["generated_rows"] == rows - len(safe)
    assert safe.items() <= finished_rows(output).items()
    assert parquet_bytes(results_folder(output)) == undisturbed(run)


def test_rows_in_flight_may_finish_within_the_grace(tmp_path: Path, output: Path) -> None:
    """None has finished when the signal comes; all that were begun do, and no other."""
    with running(tmp_path / "log", settings(tmp_path, rows=LONG_ROWS, delay=LONG)) as job:
        job.event("engine_ready")
        time.sleep(0.2)
        job.process.send_signal(signal.SIGTERM)
        stopped = job.end()
    assert stopped.code == 75
    (noticed,) = stopped.of("shutdown_requested")
    assert 0 < noticed["in_flight"] <= WINDOW
    assert sorted(finished_rows(output)) == list(range(WINDOW))


def test_without_grace_rows_in_flight_are_left_for_the_next_run(tmp_path: Path, output: Path, undisturbed: Undisturbed) -> None:
    run = settings(tmp_path, rows=LONG_ROWS, delay=LONG, SHUTDOWN_GRACE_SECONDS=0)
    with running(tmp_path / "log", run) as job:
        job.event("engine_ready")
        time.sleep(0.2)
        job.process.send_signal(signal.SIGTERM)
        stopped = job.end()
    safe = finished_rows(output)
    assert stopped.code == 75
    assert len(safe) < WINDOW // 2, "rows in flight were waited for"
    assert f"{len(safe)} of {LONG_ROWS} rows are safe" in stopped.last["message"]
    resumed = run_job(**run)
    assert (resumed.code, resumed.last["generated_rows"]) == (0, LONG_ROWS - len(safe))
    assert parquet_bytes(results_folder(output)) == undisturbed(run)


@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)],
    ids=["SIGTERM", "SIGINT"],
)
def test_a_second_signal_ends_at_once_and_loses_nothing(
    first: signal.Signals, second: signal.Signals, tmp_path: Path, output: Path, undisturbed: Undisturbed
) -> None:
    run = settings(tmp_path, rows=LONG_ROWS, delay=LONG)
    with running(tmp_path / "log", run) as job:
        some_finished(job, output, 1)
        job.process.send_signal(first)
        job.event("shutdown_requested")
        time.sleep(0.6)  # until then it would be the same signal
        before = finished_rows(output)
        job.process.send_signal(second)
        at = time.monotonic()
        ended = job.end()
        took = time.monotonic() - at
    assert ended.code == -second
    assert took < 0.3, f"it took {took:.2f} s"
    left = snapshot(output, tmp_path / "copy")
    assert left.sound
    assert before.items() <= left.rows.items()
    resumed = run_job(**run)
    assert (resumed.code, resumed.last["generated_rows"]) == (0, LONG_ROWS - len(left.rows))
    assert parquet_bytes(results_folder(output)) == undisturbed(run)


@pytest.mark.parametrize("event", ["settings_loaded", "commits_resolved"])
def test_a_signal_before_the_engine_starts_stops_before_it(event: str, tmp_path: Path, output: Path) -> None:
    run = settings(tmp_path)
    with running(tmp_path / "log", run) as job:
        job.event(event)
        job.process.send_signal(signal.SIGTERM)
        stopped = job.end()
    assert stopped.code == stopped.last["exit_code"] == 75
    assert stopped.last["message"].startswith("stopped by SIGTERM")
    assert "Run the same command again" in stopped.last["message"]
    assert not stopped.of("engine_ready")
    assert stopped.stderr == ""


def test_the_exit_code_is_that_of_the_last_line_whenever_a_signal_comes(tmp_path: Path) -> None:
    """While Python still imports, and while it ends, too: from the moment on that the job's first module is running."""
    run = settings(tmp_path, rows=100, delay=0.01)
    undisturbed = run_job(**{**run, "OUTPUT_DIR": tmp_path / "undisturbed"}).seconds
    chance, seen = random.Random(5), Counter[int]()
    for number in range(14):
        with running(tmp_path / f"log-{number}", {**run, "OUTPUT_DIR": tmp_path / f"results-{number}"}) as job:
            job.until(lambda job=job: handles(job.process.pid, signal.SIGTERM) or None)  # type: ignore[misc]
            time.sleep(chance.uniform(0, 1.2 * undisturbed))
            job.process.send_signal(chance.choice([signal.SIGTERM, signal.SIGINT]))
            ended = job.end()
        assert ended.code == ended.last["exit_code"]
        assert ended.stderr == ""
        seen[ended.code] += 1
    assert set(seen) == {0, 75}


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_a_long_check_is_broken_off(tmp_path: Path, output: Path) -> None:
    """A dataset that takes seconds to be read: nothing looks at a flag there."""
    data = tmp_path / "long.jsonl"
    line = json.dumps({"instruction": "Count to ten. " * 20}) + "\n"
    data.write_text(line * 1_000_000)
    with running(tmp_path / "log", {**ECHO, "DATASET_ID": data, "OUTPUT_DIR": output, "HF_HOME": tmp_path / "hf"}) as job:
        job.event("settings_loaded")
        time.sleep(1)
        job.process.send_signal(signal.SIGTERM)
        at = time.monotonic()
        stopped = job.end()
        assert time.monotonic() - at < 2
    assert stopped.code == 75
    assert not stopped.of("dataset_loaded")
    assert "before anything was generated" in stopped.last["message"]
    assert stopped.stderr == ""


def test_a_long_look_at_a_model_is_broken_off(tmp_path: Path, output: Path) -> None:
    """Its files are read in threads, which nothing can interrupt: they are not waited for."""
    model = tmp_path / "model"
    model.mkdir()
    for name in ("one", "two", "three", "four"):
        with (model / f"{name}.safetensors").open("wb") as file:
            file.truncate(16 * 2**30)
    data = write_jsonl(tmp_path / "rows.jsonl", [{"instruction": "Count."}])
    with running(tmp_path / "log", {"MODEL_ID": model, "DATASET_ID": data, "OUTPUT_DIR": output}) as job:
        job.event("dataset_loaded")
        time.sleep(0.5)
        job.process.send_signal(signal.SIGTERM)
        at = time.monotonic()
        stopped = job.end()
        assert time.monotonic() - at < 2
    assert stopped.code == stopped.last["exit_code"] == 75
    assert stopped.stderr == ""


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_process_without_standard_streams_runs_as_any_other(closed: str, tmp_path: Path, output: Path) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", [{"instruction": "Count."}])
    variables = {**ECHO, "DATASET_ID": data, "OUTPUT_DIR": output, "LOG_FORMAT": "auto"}
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *JOB]
    with running(tmp_path / "log", variables, command) as job:
        assert job.process.wait(60) == 0
    assert len(finished_rows(output)) == 1


@pytest.mark.parametrize("grace", [0, 60])
def test_results_are_finished_within_the_grace(grace: int, tmp_path: Path, output: Path, undisturbed: Undisturbed) -> None:
    run = settings(tmp_path, rows=30_000, delay=0)
    with running(tmp_path / "log", {**run, "SHUTDOWN_GRACE_SECONDS": grace}) as job:
        job.event("progress")
        job.until(lambda: next(output.glob("*/*/data/*.tmp"), None))
        job.process.send_signal(signal.SIGTERM)
        stopped = job.end()
    assert stopped.code == (0 if grace else 75)
    assert not list(output.glob("**/*.tmp"))
    if not grace:
        assert "30000 of 30000 rows are safe" in stopped.last["message"]
        resumed = run_job(**run)
        assert (resumed.code, resumed.last["generated_rows"]) == (0, 0)
    assert parquet_bytes(results_folder(output)) == undisturbed(run)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_the_first_process_of_a_container_stops_and_goes_on(
    number: signal.Signals, tmp_path: Path, output: Path, undisturbed: Undisturbed
) -> None:
    """To process 1 the kernel gives only signals that it has a handler for."""
    if os.geteuid() != 0:
        pytest.skip("a PID namespace needs root")
    run = settings(tmp_path)
    as_init = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *JOB]
    with running(tmp_path / "log", run, as_init) as container:
        some_finished(container, output, 30)
        os.kill(min(descendants(container.process.pid)), number)
        stopped = container.end()
    safe = finished_rows(output)
    assert stopped.code == stopped.last["exit_code"] == 75
    assert f"{len(safe)} of {ROWS} rows are safe" in stopped.last["message"]
    resumed = run_job(**run)
    assert (resumed.code, resumed.last["generated_rows"]) == (0, ROWS - len(safe))
    assert parquet_bytes(results_folder(output)) == undisturbed(run)
