"""The job as a process, with the echo engine: what a user sees."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import ECHO, finished_rows, parquet_bytes, read_table, results_folder, run_job, write_jsonl

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


def _rows(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(folder).to_pylist()
    return rows


@pytest.fixture
def loops(tmp_path: Path) -> Path:
    """Answers of the echo engine that end, that are longer than MAX_TOKENS=60, and that loop."""
    texts = ["Say hello.", "".join(map(chr, range(1000, 1200))), "la! " * 200]
    return write_jsonl(tmp_path / "loops.jsonl", [{"instruction": text} for text in texts])


LOOPS = {"MAX_TOKENS": 60, "REPETITION_DETECTION": '{"max_pattern_size": 2, "min_count": 5}'}


def test_answers_that_do_not_end_are_answers_and_are_told_with_what_they_cost(loops: Path, output: Path) -> None:
    outcome = run_job(**ECHO, **LOOPS, DATASET_ID=loops, OUTPUT_DIR=output, NUM_SAMPLES=2)
    folder = results_folder(output)
    rows, facts, card = _rows(folder), json.loads((folder / "run.json").read_text()), (folder / "README.md").read_text()
    assert (outcome.code, outcome.last["failed_rows"]) == (0, 0)
    assert [row["finish_reason"] for row in rows] == [["stop"] * 2, ["length"] * 2, ["repetition"] * 2]
    for answer, seed in zip(rows[2]["answers"], rows[2]["seed"], strict=True):
        assert f"[{seed}] {rows[2]['prompt']}".startswith(answer)
        assert "la! " * 4 in answer
    tokens = [length for row in rows for length in row["completion_tokens"]]
    answers = facts["answers"]
    assert facts["counts"]["finish_reasons"] == outcome.last["finish_reasons"] == {"length": 2, "repetition": 2, "stop": 2}
    assert facts["counts"]["lengths"] == {str(length): tokens.count(length) for length in sorted(tokens)}
    assert (answers["answers"], answers["runaways"], answers["runaway_tokens"]) == (6, 4, sum(tokens[2:]))
    assert answers["longest_tokens"] == 60
    assert outcome.last["answers"] == answers
    (warned,) = outcome.of("runaways_found")
    assert answers.items() <= warned.items()
    assert "REPETITION_DETECTION" in warned["remedy"]
    told = f"4 of 6 answers (66.7 %), {100 * sum(tokens[2:]) / sum(tokens):.1f} % of the generated tokens"
    assert f"| runaways, which the model did not end by itself | {told} |\n" in card
    assert outcome.last["message"].endswith(f". Runaways: {told}")


def test_detection_makes_another_run_which_ends_answers_earlier_and_changes_no_other(loops: Path, output: Path) -> None:
    plain = run_job(**(ECHO | LOOPS | {"REPETITION_DETECTION": ""}), DATASET_ID=loops, OUTPUT_DIR=output)
    ended = run_job(**ECHO, **LOOPS, DATASET_ID=loops, OUTPUT_DIR=output)
    whole, cut = (_rows(Path(each.last["results"])) for each in (plain, ended))
    assert plain.last["run_id"] != ended.last["run_id"]
    assert plain.last["finish_reasons"] == {"length": 2, "stop": 1}
    assert cut[:2] == whole[:2]
    assert whole[2]["answers"].startswith(cut[2]["answers"])


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


def test_results_of_an_earlier_release_are_written_again_without_answering_anew(three_rows: Path, output: Path) -> None:
    variables = {**ECHO, "DATASET_ID": three_rows, "OUTPUT_DIR": output}
    assert run_job(**variables).code == 0
    path = results_folder(output) / "run.json"
    now = json.loads(path.read_text())
    counts = {name: value for name, value in now["counts"].items() if name not in ("runaway_tokens", "lengths")}
    path.write_text(json.dumps({name: value for name, value in now.items() if name != "answers"} | {"counts": counts}))
    again = run_job(**variables)
    assert (again.code, again.last["generated_rows"]) == (0, 0)
    assert json.loads(path.read_text())["counts"] == now["counts"]


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
