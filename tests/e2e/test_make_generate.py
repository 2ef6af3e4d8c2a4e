"""`make generate`, as a person runs it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, environment, read_table, write_jsonl

pytestmark = [pytest.mark.slow]
QUICK = {"ENGINE": "echo"}


def make_generate(**variables: object) -> subprocess.CompletedProcess[str]:
    bare = {name: os.environ[name] for name in ("PATH", "HOME", "HF_HOME") if name in os.environ}
    environ = bare | {name: str(value) for name, value in variables.items()}
    return subprocess.run(["make", "generate"], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=280)


@pytest.mark.vllm
def test_plain_make_generate_answers_the_embedded_dataset(output: Path) -> None:
    done = make_generate(OUTPUT_DIR=output)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    table = read_table(output / "SmolLM2-135M-Instruct" / "latest")
    assert table.num_rows == 32
    assert all(isinstance(answer, str) for answer in table["answers"].to_pylist())
    shown = done.stdout[done.stdout.index("\nQ:") :]
    assert shown.count("\nQ:") == shown.count("\nA:") == 3
    assert "Q: What is the capital of France?\nA: The capital of France is Paris." in shown
    assert str(output) in shown


def test_environment_wins_over_the_embedded_default(three_rows: Path, output: Path) -> None:
    done = make_generate(**QUICK, DATASET_ID=three_rows, MAX_ROWS=2, OUTPUT_DIR=output)
    assert done.returncode == 0, done.stderr
    assert read_table(output / "SmolLM2-135M-Instruct" / "latest")["id"].to_pylist() == [0, 1]


def test_empty_variable_counts_as_unset(three_rows: Path, output: Path) -> None:
    done = make_generate(**QUICK, DATASET_ID=three_rows, MODEL_ID="", OUTPUT_DIR=output)
    assert done.returncode == 0, done.stderr
    assert (output / "SmolLM2-135M-Instruct" / "latest").exists()


def test_failure_keeps_its_exit_code(output: Path) -> None:
    done = make_generate(**QUICK, DATASET_ID="missing.jsonl", OUTPUT_DIR=output)
    assert "Error 65" in done.stderr
    assert "no such file or folder" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_lets_the_job_end_as_it_promises(number: signal.Signals, tmp_path: Path, output: Path) -> None:
    """As a terminal does it: Ctrl-C goes to the whole group, SIGTERM to the script."""
    rows = write_jsonl(tmp_path / "many.jsonl", [{"instruction": f"Say {n}."} for n in range(400)])
    slow = {"ENGINE_ARGS": '{"delay_seconds": 0.2, "window": 4}', "SHUTDOWN_GRACE_SECONDS": "1", "LOG_FORMAT": "json"}
    environ = environment(**QUICK, DATASET_ID=rows, OUTPUT_DIR=output, **slow)
    command = [sys.executable, "scripts/generate"]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True) as script:
        assert script.stdout is not None
        for line in script.stdout:
            if '"engine_ready"' in line:
                break
        (os.killpg if number is signal.SIGINT else os.kill)(script.pid, number)
        last = script.stdout.read().splitlines()[-1]
    assert script.returncode == 75
    assert "rows are safe" in last
