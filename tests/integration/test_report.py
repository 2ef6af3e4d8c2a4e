"""The report as a command: on results of real runs, from folders and the Hub; and what docs/report.md tells people to run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_server import HubServer
from tests.support import ECHO, ROOT, Outcome, environment, results_folder, run_job

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")


def report(*arguments: object, **variables: object) -> Outcome:
    done = subprocess.run(
        [sys.executable, "-m", "job.report", *map(str, arguments)],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Outcome(done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr)


def test_runs_of_the_job_become_a_report(three_rows: Path, output: Path, tmp_path: Path) -> None:
    for model in ("one", "two"):
        assert run_job(**ECHO | {"MODEL_ID": model}, DATASET_ID=three_rows, OUTPUT_DIR=output).code == 0
    done = report(output / "one", output / "two" / "latest", "--output", tmp_path / "report.html")
    assert done.code == 0, done.last
    assert (done.last["rows"], done.last["runs"], done.last["not_like_for_like"]) == (3, ["one", "two"], [])
    assert (tmp_path / "report.html").stat().st_size == done.last["bytes"]
    assert done.stderr == ""


def test_refusals_have_the_job_s_exit_codes(three_rows: Path, output: Path, tmp_path: Path) -> None:
    assert run_job(**ECHO, DATASET_ID=three_rows, OUTPUT_DIR=output).code == 0
    folder, written = results_folder(output), tmp_path / "report.html"
    assert report().code == 78
    assert report(tmp_path / "nowhere", "--output", written).code == 78
    assert report(folder, folder, "--output", written).code == 78
    assert report(folder, "--output", "/proc/report.html").code == 73
    (folder / "run.json").unlink()
    unfinished = report(folder, "--output", written)
    assert (unfinished.code, unfinished.last["error"]) == (65, "DatasetError")
    assert not written.exists()


def test_published_results_are_read_from_the_hub(three_rows: Path, output: Path, tmp_path: Path) -> None:
    written = tmp_path / "report.html"
    with HubServer() as hub:
        hub.add_user("ana", token="hf_ana_of_the_test_hub")
        settings = {"DATASET_ID": three_rows, "OUTPUT_DIR": output, "HUB_NAMESPACE": "ana"}
        client = hub.environment("hf_ana_of_the_test_hub")
        for model in ("one", "two"):
            assert run_job(**ECHO | {"MODEL_ID": model}, **settings, **client).code == 0
        done = report("ana/one-results", "ana/two-results@main", "--output", written, **client)
        assert (done.code, done.last.get("runs")) == (0, ["one", "two"]), done.last
        missing = report("ana/three-results", "--output", written, **client)
        assert missing.code == 78
        assert "ana/three-results" in missing.last["message"]


def test_the_page_s_commands_make_a_report(tmp_path: Path) -> None:
    """Of the target, only what it does: its virtual environment is the one that the tests run in."""
    commands = "\n".join(re.findall(r"^```bash\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
    typed = commands.replace("make report", "make --old-file=.venv/.cpu report")
    typed = typed.replace("results/", f"{tmp_path}/results/").replace("REPORT=", f"REPORT={tmp_path}/")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", typed],
        cwd=ROOT,
        env=environment(OUTPUT_DIR=tmp_path / "results", PYTHON=sys.executable),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (tmp_path / "report.html").is_file()
