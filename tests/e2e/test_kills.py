"""Real vLLM, killed with SIGKILL again and again: the answers come out as if nothing had happened."""

import os
import random
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import ENGINE
from tests.processes import assert_gone, command_of, descendants
from tests.support import ROOT, parquet_bytes, read_table, results_folder, run_job, running, start_job, write_jsonl

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(600)]
KILLS = 3
ROWS = 24


@pytest.fixture
def settings(model: Path, tmp_path: Path) -> dict[str, object]:
    """Sampled answers, two a row, with one row that is too long: all that a kill could disturb."""
    rows = [{"instruction": f"Write a short sentence with the number {number}."} for number in range(ROWS - 1)]
    dataset = write_jsonl(tmp_path / "rows.jsonl", [*rows, {"instruction": "word " * 3000}])
    sampling = {"NUM_SAMPLES": 2, "MAX_TOKENS": 40, "SEED": 11, "MAX_FAILED_ROWS": 1}
    return {"MODEL_ID": model, "DATASET_ID": dataset, **sampling, **ENGINE}


def journalled(output: Path) -> int:
    """Rows in the journal, as another process sees them."""
    for journal in output.glob("*/*/shard-*/journal.sqlite"):
        if not journal.parent.parent.is_symlink():
            connection = sqlite3.connect(f"file:{journal}?mode=ro", uri=True, timeout=30)
            try:
                return int(connection.execute("SELECT count(*) FROM finished").fetchone()[0])
            except sqlite3.OperationalError:  # the tables are not there yet
                return 0
            finally:
                connection.close()
    return 0


def kill_when_journalled(settings: dict[str, object], output: Path, rows: int) -> None:
    """Start the job and SIGKILL it once that many rows are in its journal; its engine must not outlive it."""
    with start_job(**settings, OUTPUT_DIR=output) as process:
        deadline = time.monotonic() + 120
        while journalled(output) < rows:
            assert process.poll() is None, process.communicate()[0][-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        engine = descendants(process.pid)
        assert len(engine) >= 2
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert_gone(engine)


def test_answers_are_the_same_bytes_when_killed_three_times(settings: dict[str, object], tmp_path: Path) -> None:
    undisturbed = run_job(**settings, OUTPUT_DIR=tmp_path / "undisturbed")
    assert undisturbed.code == 0, undisturbed.last
    expected = results_folder(tmp_path / "undisturbed")
    rows = read_table(expected).to_pylist()
    assert [len(row["answers"]) for row in rows] == [2] * ROWS
    assert rows[-1]["finish_reason"] == ["too_long", "too_long"]

    output, chance = tmp_path / "killed", random.Random(7)
    for _ in range(KILLS):
        kill_when_journalled(settings, output, journalled(output) + chance.randint(1, 6))
    safe = journalled(output)
    last = run_job(**settings, OUTPUT_DIR=output)
    assert last.code == 0, last.last
    assert last.last["generated_rows"] == ROWS - safe
    assert parquet_bytes(results_folder(output)) == parquet_bytes(expected)


def test_ctrl_c_on_the_group_ends_with_75_and_leaves_no_process(settings: dict[str, object], tmp_path: Path) -> None:
    command = ["setsid", "--wait", "env", *(f"{name}={value}" for name, value in settings.items())]
    command += [
        "SHUTDOWN_GRACE_SECONDS=1",
        f"OUTPUT_DIR={tmp_path / 'stopped'}",
        "LOG_FORMAT=json",
        str(ROOT / ".venv/bin/python"),
        "-m",
        "job",
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while journalled(tmp_path / "stopped") < 3:
            assert process.poll() is None
            time.sleep(0.02)
        family = descendants(process.pid)
        leader = min(family)
        os.killpg(os.getpgid(leader), signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 75, out[-1500:]
    assert "rows are safe" in out.splitlines()[-1]
    assert_gone(family)


def test_sigterm_while_the_model_is_loaded_ends_at_once_with_75(settings: dict[str, object], tmp_path: Path) -> None:
    with running(tmp_path / "log", {**settings, "OUTPUT_DIR": tmp_path / "early"}) as job:
        job.event("engine_starting")
        job.until(lambda: next((pid for pid in descendants(job.process.pid) if "EngineCore" in command_of(pid)), None))
        family = descendants(job.process.pid)
        sent_at = time.monotonic()
        job.process.send_signal(signal.SIGTERM)
        outcome = job.end(30)
        assert time.monotonic() - sent_at < 10
    assert outcome.code == 75, outcome.last
    assert outcome.last["message"].startswith(f"stopped by SIGTERM: 1 of {ROWS} rows are safe in ")  # the one that is too long
    assert not outcome.of("engine_ready")
    assert_gone(family)


def test_engine_that_is_killed_ends_the_run_with_70_in_seconds(settings: dict[str, object], tmp_path: Path) -> None:
    with start_job(**settings, OUTPUT_DIR=tmp_path / "dead") as process:
        while journalled(tmp_path / "dead") < 2:
            assert process.poll() is None
            time.sleep(0.02)
        family = descendants(process.pid)
        cores = [pid for pid in family if "EngineCore" in command_of(pid)]
        killed_at = time.monotonic()
        for pid in cores:
            os.kill(pid, signal.SIGKILL)
        out, _ = process.communicate(timeout=60)
    assert cores
    assert process.returncode == 70, out[-1500:]
    assert time.monotonic() - killed_at < 15
    assert "vLLM died" in out.splitlines()[-1]
    assert_gone(family)
