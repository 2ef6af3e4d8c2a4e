"""Two machines with one shared folder whose kernel locks do not reach from one to the other.

The second machine is a mount namespace with a host name, a boot id and a lock file of its own; all else of the run's folder is
shared.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support import (
    ECHO,
    JOB,
    RunningJob,
    finished_rows,
    journal_of,
    parquet_bytes,
    results_folder,
    run_job,
    running,
    write_jsonl,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="namespaces need root"),
]
ROWS = 240
LIVELY_JOB = [sys.executable, "-m", "tests.integration.lively_job"]  # whose death is noticed in 6 s, not in 30
MACHINE = """
set -e
hostname node-b
mount --bind "$1" /proc/sys/kernel/random/boot_id
mount --bind "$2" "$3"
shift 3
exec "$@"
"""


def settings(folder: Path, *, delay: float = 0.3) -> dict[str, object]:
    data = write_jsonl(folder / "rows.jsonl", [{"instruction": f"Count to {number}."} for number in range(ROWS)])
    switches = json.dumps({"delay_seconds": delay, "window": 16})
    return {**ECHO, "DATASET_ID": data, "ENGINE_ARGS": switches, "OUTPUT_DIR": folder / "results"}


def on_another_machine(folder: Path, shard: Path, command: Sequence[str] = JOB) -> Sequence[str]:
    """The command that runs the job there."""
    boot_id, lock = folder / "boot_id", folder / "other-lock"
    boot_id.write_text("00000000-0000-4000-8000-000000000000\n")
    lock.touch()
    return ["unshare", "--mount", "--uts", "sh", "-c", MACHINE, "sh", *map(str, (boot_id, lock, shard / "lock")), *command]


def at_work(job: RunningJob, output: Path, rows: int) -> Path:
    """The shard's folder, as soon as so many rows are finished."""
    job.until(lambda: len(finished_rows(output)) >= rows or None)
    journal = journal_of(output)
    assert journal is not None
    return journal.parent


def test_a_twin_on_another_machine_is_turned_away_by_a_sign_of_life(tmp_path: Path, output: Path) -> None:
    run = settings(tmp_path, delay=0.8)  # longer than until the next beat
    with running(tmp_path / "log", run) as first:
        shard = at_work(first, output, 5)
        with running(tmp_path / "log-b", run, on_another_machine(tmp_path, shard)) as second:
            twin = second.end()
        assert first.process.poll() is None, "the first one ended too soon: this proves nothing"
        ended = first.end()
    assert twin.code == twin.last["exit_code"] == 75
    assert [line["event"] for line in twin.events if line["event"] in ("holder_awaited", "engine_ready")] == ["holder_awaited"]
    assert f"is being worked on by process {first.process.pid} on {os.uname().nodename}: wait" in twin.last["message"]
    assert (ended.code, ended.last["generated_rows"]) == (0, ROWS)


def test_a_machine_that_died_is_succeeded_and_one_that_slept_finds_that_out(tmp_path: Path, output: Path) -> None:
    """The first is frozen, as a suspended machine is; the other takes over; the first wakes up and must not write on."""
    run = settings(tmp_path)
    with running(tmp_path / "log", run, LIVELY_JOB) as first:
        shard = at_work(first, output, 5)
        first.process.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        with running(tmp_path / "log-b", run, on_another_machine(tmp_path, shard, LIVELY_JOB)) as second:
            second.event("engine_ready")
            frozen = finished_rows(output)
            first.process.send_signal(signal.SIGCONT)
            woken = first.end()
            succeeded = second.end()
    assert woken.code == woken.last["exit_code"] == 75
    assert "on node-b" in woken.last["message"]
    assert "silent for too long" in woken.last["message"]
    assert (succeeded.code, succeeded.last["generated_rows"]) == (0, ROWS - len(frozen))
    alone = run_job(**{**run, "OUTPUT_DIR": tmp_path / "alone"})
    assert alone.code == 0
    assert parquet_bytes(results_folder(output)) == parquet_bytes(results_folder(tmp_path / "alone"))


def test_the_namespace_is_another_machine(tmp_path: Path) -> None:
    """The measuring device itself: another name, another boot id, another lock."""
    shard = tmp_path / "shard"
    shard.mkdir()
    (shard / "lock").touch()
    command = on_another_machine(tmp_path, shard)[: -len(JOB)]
    look = ["stat", "-c", "%i", str(shard / "lock"), "/proc/sys/kernel/random/boot_id"]
    seen = subprocess.run([*command, *look], capture_output=True, text=True, check=True).stdout.split()
    assert seen[0] != str((shard / "lock").stat().st_ino)
    assert seen[1] == str((tmp_path / "boot_id").stat().st_ino)
