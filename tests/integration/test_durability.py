"""A finished row is safe within a second, and a second process on the same run disturbs nothing."""

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kills import LEDGER_JOB, SAFE_SECONDS, read_ledger
from tests.support import (
    ECHO,
    RunningJob,
    finished_rows,
    parquet_bytes,
    read_table,
    results_folder,
    run_job,
    running,
    write_jsonl,
)

pytestmark = pytest.mark.slow


def settings(folder: Path, *, rows: int, delay: float, window: int, **more: object) -> dict[str, object]:
    """`more` holds other switches of the echo engine."""
    data = write_jsonl(folder / "rows.jsonl", [{"instruction": f"Count to {number}."} for number in range(rows)])
    switches = json.dumps({"delay_seconds": delay, "window": window, **more})
    return {**ECHO, "DATASET_ID": data, "ENGINE_ARGS": switches, "OUTPUT_DIR": folder / "results"}


def watch(job: RunningJob, output: Path, rows: int) -> list[tuple[float, frozenset[int]]]:
    """What is in the journal, looked at from another process until all rows are: after when, and which positions."""
    seen: list[tuple[float, frozenset[int]]] = []

    def look() -> bool | None:
        before = time.monotonic()
        seen.append((before, frozenset(finished_rows(output))))
        return len(seen[-1][1]) == rows or None

    job.until(look)
    return seen


def overdue(seen: list[tuple[float, frozenset[int]]], finished: dict[int, float]) -> dict[int, float]:
    """Rows that a look, more than SAFE_SECONDS after they were finished, did not find: how many seconds after."""
    late: dict[int, float] = {}
    for when, positions in seen:
        for position, at in finished.items():
            if position not in positions and when - at > SAFE_SECONDS:
                late[position] = when - at
    return late


@pytest.mark.parametrize(
    ("rows", "delay", "window"), [(600, 0.2, 64), (4, 1.5, 1)], ids=["hundreds a second", "one in more than a second"]
)
def test_a_finished_row_is_in_the_journal_within_a_second(
    rows: int, delay: float, window: int, tmp_path: Path, output: Path
) -> None:
    """By the engine's own ledger of what it had finished when."""
    ledger = tmp_path / "ledger"
    run = settings(tmp_path, rows=rows, delay=delay, window=window)
    with running(tmp_path / "log", run | {"LEDGER": ledger}, LEDGER_JOB) as job:
        seen = watch(job, output, rows)
        assert job.end().code == 0
    work = read_ledger(ledger, samples=1)
    assert sorted(work.finished) == list(range(rows))
    assert len({positions for _, positions in seen}) >= 4, "the journal was not seen to grow: this proves little"
    assert overdue(seen, dict(work.finished)) == {}


def test_the_journal_keeps_up_with_the_log(tmp_path: Path, output: Path) -> None:
    """The job as users run it: a failing row is logged when it is finished, and all rows are journalled as they come."""
    rows, every = 300, 3
    run = settings(tmp_path, rows=rows, delay=0.15, window=16, fail_every=every)
    wall, steady = time.time(), time.monotonic()
    with running(tmp_path / "log", run | {"MAX_FAILED_ROWS": rows}) as job:
        seen = watch(job, output, rows)
        ended = job.end()
    assert ended.code == 0

    def at(event: Any) -> float:
        return datetime.fromisoformat(event["timestamp"]).timestamp() - wall + steady

    failed = {event["position"]: at(event) for event in ended.of("row_failed")}
    assert sorted(failed) == list(range(every - 1, rows, every))
    assert overdue(seen, failed) == {}
    begun, done = at(ended.of("engine_ready")[0]), at(ended.of("progress")[-1])
    for when, positions in seen:
        expected = rows * (when - SAFE_SECONDS - begun) / (done - begun)  # rows are finished at an even rate
        assert len(positions) >= min(expected, rows) - 16


def test_a_twin_is_turned_away_and_disturbs_nothing(tmp_path: Path, output: Path) -> None:
    rows = 96
    run = settings(tmp_path, rows=rows, delay=1.0, window=16)
    with running(tmp_path / "log", run) as first:
        first.until(lambda: len(finished_rows(output)) >= 10 or None)
        twin = run_job(**run)
        at_work = first.process.poll() is None
        journalled = len(finished_rows(output))
        ended = first.end()
    assert twin.code == twin.last["exit_code"] == 75
    assert at_work, "the first one ended too soon: this proves nothing"
    assert f"is being worked on by process {first.process.pid} on " in twin.last["message"]
    assert "run again" in twin.last["message"]
    assert not twin.of("engine_ready")
    assert twin.stderr == ""
    assert journalled < rows
    assert (ended.code, ended.last["generated_rows"]) == (0, rows)
    assert read_table(results_folder(output)).num_rows == rows
    alone = run_job(**{**run, "OUTPUT_DIR": tmp_path / "alone"})
    assert alone.code == 0
    assert parquet_bytes(results_folder(output)) == parquet_bytes(results_folder(tmp_path / "alone"))


def test_a_run_is_free_again_when_its_process_was_killed(tmp_path: Path, output: Path) -> None:
    run = settings(tmp_path, rows=64, delay=0.2, window=16)
    with running(tmp_path / "log", run) as first:
        first.until(lambda: len(finished_rows(output)) >= 10 or None)
        first.process.kill()
        first.process.wait()
    assert run_job(**run).code == 0


def test_results_that_are_being_written_again_are_not_called_whole(tmp_path: Path) -> None:
    run = settings(tmp_path, rows=9, delay=0, window=9)
    assert run_job(**run, MAX_ROWS=5).code == 0
    folder = results_folder(tmp_path / "results")
    (folder / "README.md.tmp").mkdir()
    assert run_job(**run).code == 73
    assert not (folder / "run.json").exists()
    (folder / "README.md.tmp").rmdir()
    assert run_job(**run).code == 0
    assert json.loads((folder / "run.json").read_text())["counts"]["rows"] == 9
