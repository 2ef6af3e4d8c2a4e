"""The job as a process, with the echo engine: what a user sees."""

import json
from pathlib import Path

import pytest

from tests.support import ECHO, finished_rows, parquet_bytes, read_table, results_folder, run_job

pytestmark = pytest.mark.slow


def test_every_row_is_answered_in_order(three_rows: Path, output: Path) -> None:
    outcome = run_job(**ECHO, DATASET_ID=three_rows, OUTPUT_DIR=output)
    table = read_table(results_folder(output))
    assert outcome.code == 0
    assert outcome.last["event"] == "run_finished"
    assert table["id"].to_pylist() == [0, 1, 2]
    assert "Count to three." in table["answers"][1].as_py()


def test_the_same_command_again_generates_nothing(three_rows: Path, output: Path) -> None:
    run_job(**ECHO, DATASET_ID=three_rows, OUTPUT_DIR=output)
    before = parquet_bytes(results_folder(output))
    again = run_job(**ECHO, DATASET_ID=three_rows, OUTPUT_DIR=output)
    assert again.code == 0
    assert again.last["generated_rows"] == 0
    assert not again.of("engine_ready")
    assert parquet_bytes(results_folder(output)) == before


@pytest.mark.parametrize(("level", "code"), [("bitwise", 78), ("seeded", 0)])
def test_a_run_is_not_finished_on_other_hardware_where_bytes_are_promised(
    three_rows: Path, output: Path, level: str, code: int
) -> None:
    variables = {**ECHO, "DATASET_ID": three_rows, "OUTPUT_DIR": output, "REPRODUCIBILITY": level}
    assert run_job(**variables, MAX_ROWS=2).code == 0
    facts = results_folder(output) / "engine.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"device": "NVIDIA H100"}))
    outcome = run_job(**variables)
    assert outcome.code == code
    if code:
        assert "the rows that are finished were answered with device NVIDIA H100, and here it is device none" in str(
            outcome.last["message"]
        )
        assert len(finished_rows(output)) == 2
