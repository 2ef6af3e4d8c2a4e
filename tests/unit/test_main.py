"""`main` in this process: exit codes, the canonical line, and no secret in whatever it writes."""

import json
import signal
from collections.abc import ItemsView
from pathlib import Path
from typing import Any

import pytest

from job.main import LIBRARY_DEFAULTS, main
from job.shutdown import StopSignal
from tests.support import ECHO, TOKEN, read_table, results_folder

SECRETS = {"HF_TOKEN": TOKEN}


def _run(capsys: pytest.CaptureFixture[str], **variables: object) -> tuple[int, list[dict[str, Any]]]:
    environ = ECHO | {"LOG_FORMAT": "json"} | SECRETS | {name: str(value) for name, value in variables.items()}
    code = main(environ, StopSignal())
    out, err = capsys.readouterr()
    for secret in SECRETS.values():
        assert secret not in out + err
    return code, [json.loads(line) for line in out.split("\n")[:-1]]


def test_a_run_that_answers_every_row_ends_with_zero(
    capsys: pytest.CaptureFixture[str], three_rows: Path, output: Path
) -> None:
    code, lines = _run(capsys, DATASET_ID=three_rows, OUTPUT_DIR=output)
    assert code == 0
    last = lines[-1]
    assert last["event"] == "run_finished"
    assert (last["exit_code"], last["rows"], last["failed_rows"], last["generated_rows"]) == (0, 3, 0, 3)
    assert last["finish_reasons"] == {"stop": 3}
    assert last["results"] == str(results_folder(output))
    assert (last["model"], last["run_id"]) == ("echo-model", results_folder(output).name)
    assert read_table(results_folder(output))["finish_reason"].to_pylist() == ["stop"] * 3
    assert [line["event"] for line in lines if line["logger"].startswith("job")] == [
        "settings_loaded",
        "dataset_loaded",
        "commits_resolved",
        "planned",
        "preflight_passed",
        "engine_starting",
        "canary_answered",
        "engine_ready",
        "progress",
        "results_written",
        "run_finished",
    ]


def test_a_run_with_runaways_says_so_when_its_results_are_written(
    capsys: pytest.CaptureFixture[str], three_rows: Path, output: Path
) -> None:
    code, lines = _run(capsys, DATASET_ID=three_rows, OUTPUT_DIR=output, MAX_TOKENS=5)
    assert (code, lines[-1]["finish_reasons"]) == (0, {"length": 3})
    assert [line["event"] for line in lines][-3:] == ["results_written", "runaways_found", "run_finished"]
    assert lines[-2]["level"] == "warning"
    assert lines[-1]["answers"]["runaway_token_share"] == 1.0


def test_no_file_of_the_results_has_a_secret(capsys: pytest.CaptureFixture[str], three_rows: Path, output: Path) -> None:
    assert _run(capsys, DATASET_ID=three_rows, OUTPUT_DIR=output)[0] == 0
    files = [file for file in output.rglob("*") if file.is_file()]
    assert len(files) >= 5
    assert not [file for file in files if SECRETS["HF_TOKEN"].encode() in file.read_bytes()]


def test_wrong_settings_end_with_78_and_all_problems(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = _run(capsys, TEMPERATURE="hot", ENGINE_ARGS=json.dumps({"hf_token": SECRETS["HF_TOKEN"]}))
    assert code == 78
    (line,) = lines
    assert (line["event"], line["exit_code"], line["error"], line["level"]) == ("run_finished", 78, "SettingsError", "error")
    for name in ("DATASET_ID", "TEMPERATURE='hot'", "ENGINE_ARGS: hf_token is set by HF_TOKEN"):
        assert name in line["message"]


def test_a_wrong_log_format_is_reported_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, (line,) = _run(capsys, DATASET_ID="x.jsonl", LOG_FORMAT="xml")
    assert code == 78
    assert "LOG_FORMAT='xml'" in line["message"]


def test_a_missing_dataset_ends_with_65(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, lines = _run(capsys, DATASET_ID=tmp_path / "none.jsonl")
    assert code == 65
    assert lines[-1]["error"] == "DatasetError"
    assert "none.jsonl: no such file or folder" in lines[-1]["message"]


def test_too_many_failed_rows_end_with_65(capsys: pytest.CaptureFixture[str], three_rows: Path, output: Path) -> None:
    failing = {"DATASET_ID": three_rows, "OUTPUT_DIR": output, "ENGINE_ARGS": '{"fail_every": 3}'}
    code, lines = _run(capsys, **failing)
    assert code == 65
    assert lines[-1]["error"] == "FailedRowsError"
    assert "1 of 3 rows have no answer, and MAX_FAILED_ROWS=0" in lines[-1]["message"]
    assert _run(capsys, **failing, MAX_FAILED_ROWS=1)[0] == 0


def test_an_output_folder_that_cannot_be_made_ends_with_73(
    capsys: pytest.CaptureFixture[str], three_rows: Path, tmp_path: Path
) -> None:
    code, lines = _run(capsys, DATASET_ID=three_rows, OUTPUT_DIR=three_rows)
    assert code == 73
    assert "choose another OUTPUT_DIR" in lines[-1]["message"]


def test_a_near_miss_is_a_warning_before_anything_else(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, lines = _run(capsys, DATASET_ID=tmp_path / "none.jsonl", TEMPRATURE="0.5")
    assert lines[0]["event"] == "unknown_variable"
    assert lines[0]["level"] == "warning"
    assert (lines[0]["variable"], lines[0]["meant"]) == ("TEMPRATURE", "TEMPERATURE")


def test_settings_are_logged_with_secrets_masked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, lines = _run(capsys, DATASET_ID=tmp_path / "none.jsonl", SEED=5)
    assert lines[0]["event"] == "settings_loaded"
    assert (lines[0]["seed"], lines[0]["hf_token"]) == (5, "**********")


class _Buggy(dict[str, str]):
    def items(self) -> ItemsView[str, str]:  # type: ignore[override]
        local_value = "a-local-value"
        raise LookupError(f"a bug near {SECRETS['HF_TOKEN']} of {len(local_value)} letters")


def test_a_bug_ends_with_one_and_a_traceback_without_local_values(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(_Buggy(ECHO | {"LOG_FORMAT": "json"}), StopSignal())
    out = capsys.readouterr().out
    line = json.loads(out)
    assert code == 1
    assert (line["event"], line["exit_code"]) == ("run_finished", 1)
    assert "LookupError: a bug near *** of 13 letters" in line["exception"]
    assert "please report it" in line["message"]
    assert "a-local-value" not in out


def test_run_json_says_what_image_the_job_ran_in_and_the_identity_does_not(
    capsys: pytest.CaptureFixture[str], three_rows: Path, tmp_path: Path
) -> None:
    told = {"ANSWERS_IMAGE_VARIANT": "cpu", "ANSWERS_IMAGE_BASE": "base@sha256:0", "ANSWERS_IMAGE_COMMIT": "c" * 40}
    folders = []
    for name, variables in (("inside", told), ("outside", {})):
        assert _run(capsys, DATASET_ID=three_rows, OUTPUT_DIR=tmp_path / name, **variables)[0] == 0
        folders.append(results_folder(tmp_path / name))
    inside, outside = (json.loads((folder / "run.json").read_text(encoding="utf-8")) for folder in folders)
    assert inside["image"] == {"variant": "cpu", "base": "base@sha256:0", "commit": "c" * 40}
    assert outside["image"] is None
    assert inside["identity"] == outside["identity"]


def test_the_libraries_get_defaults_and_a_value_that_is_set_wins(capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"LOG_FORMAT": "json", "HF_HUB_DISABLE_TELEMETRY": "0"}
    assert main(environ, StopSignal()) == 78
    assert environ["HF_HUB_DISABLE_TELEMETRY"] == "0"
    assert {name: environ[name] for name in LIBRARY_DEFAULTS} == LIBRARY_DEFAULTS | {"HF_HUB_DISABLE_TELEMETRY": "0"}
    capsys.readouterr()


def test_the_signal_handlers_are_put_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    _run(capsys, DATASET_ID=tmp_path / "none.jsonl")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
