"""What people read agrees with what the code does."""

import inspect
import re
import subprocess
import sys

import pytest

from job import errors
from job.settings import Settings, variables
from tests.support import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]


def test_configuration_and_env_example_are_those_of_the_settings() -> None:
    done = subprocess.run([sys.executable, "scripts/document-settings", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_env_example_names_each_variable_once_and_reads_back_as_the_defaults() -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    assigned = [(match[1], match[2]) for line in lines if (match := re.fullmatch(r"(?:# )?([A-Z_]+)=(.*)", line))]
    assert [name for name, _ in assigned] == [name for _, name in variables()]
    required = {"MODEL_ID": "m", "DATASET_ID": "d"}
    assert Settings.from_env(dict(assigned) | required) == Settings.from_env(required)


def test_readme_exit_codes_are_those_of_the_errors() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    raised = {cls.exit_code for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.JobError)}
    assert documented == raised | {0}


def test_operations_page_has_a_section_for_each_exit_code() -> None:
    documented = {int(code) for code in re.findall(r"^### (\d+):", OPERATIONS, re.MULTILINE)}
    raised = {cls.exit_code for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.JobError)}
    assert documented == raised | {0}


def test_operations_page_names_the_events_that_the_job_logs() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "job").rglob("*.py"))
    logged = set(re.findall(r"log\.(?:info|warning|error|exception)\(\s*\"(\w+)\"", code)) | set(
        re.findall(r'event(?:: str)? ?= ?"(\w+)"', code)
    )
    table = OPERATIONS[OPERATIONS.index("| event | says |") :]
    documented = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert documented == logged


def test_error_tree_in_the_docstring_is_the_real_one() -> None:
    drawn = dict(re.findall(r"\+-- (\w+)\s+(\d+)", errors.__doc__ or ""))
    classes = inspect.getmembers(errors, inspect.isclass)
    real = {
        name: str(cls.exit_code) for name, cls in classes if issubclass(cls, errors.JobError) and cls is not errors.JobError
    }
    assert drawn == real


def test_readme_defaults_are_those_of_the_settings() -> None:
    settings = Settings.from_env({"MODEL_ID": "m", "DATASET_ID": "d"})
    shown = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for part in ("model", "data", "prompt", "sampling", "engine", "output", "hub", "run")
        for name, value in getattr(settings, part)
    }
    rows = re.findall(r"^\| (`[A-Z_`, ]+) \| ([^|]*) \|", README, re.MULTILINE)
    checked = 0
    for names, defaults in rows:
        for name, default in zip(re.findall(r"`(\w+)`", names), defaults.replace("`", "").split(","), strict=False):
            if default.strip() not in ("", "all"):
                assert shown[name.lower()] == default.strip(), name
                checked += 1
    assert checked >= 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_targets_and_files_that_a_page_names_exist(page: object) -> None:
    text = (ROOT / str(page)).read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^|[\w=./]+ )make ([a-z][a-z0-9-]*)", text, re.MULTILINE)) <= targets
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert ((ROOT / str(page)).parent / link).exists(), link


def test_embedded_default_is_a_valid_configuration() -> None:
    lines = (ROOT / "scripts" / "embedded.env").read_text(encoding="utf-8").splitlines()
    environ = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    settings = Settings.from_env(environ)
    assert settings.engine.reproducibility == "bitwise"
    assert (ROOT / settings.data.dataset_id).is_file()
