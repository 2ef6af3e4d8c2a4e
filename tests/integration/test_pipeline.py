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


def test_how_the_model_is_computed_is_recorded(three_rows: Path, output: Path) -> None:
    chosen = {"DTYPE": "float16", "QUANTIZATION": "fp8", "KV_CACHE_DTYPE": "fp8_e5m2", "TENSOR_PARALLEL_SIZE": 2}
    assert run_job(**ECHO, **chosen, DATASET_ID=three_rows, OUTPUT_DIR=output).code == 0
    folder = results_folder(output)
    facts = {name.lower(): value for name, value in chosen.items()}
    assert facts.items() <= json.loads((folder / "identity.json").read_text())["facts"].items()
    assert facts.items() <= json.loads((folder / "run.json").read_text())["identity"]["facts"].items()
    card = (folder / "README.md").read_text()
    for line in (", dtype float16,", "| quantization | `'fp8'` |", "| kv_cache_dtype | `'fp8_e5m2'` |"):
        assert line in card
    assert "| tensor_parallel_size | 2 |\n" in card


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
