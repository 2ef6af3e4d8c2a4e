"""How `make generate` puts the job's environment together."""

from pathlib import Path
from types import ModuleType

import pytest

from tests.support import load_script

EMBEDDED = {"MODEL_ID": "embedded", "DATASET_ID": "embedded.jsonl", "MAX_TOKENS": "96"}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("generate")


def test_environment_wins_over_dotenv_and_dotenv_over_the_embedded_default(script: ModuleType) -> None:
    layered = script.layered({"SEED": "1"}, {"SEED": "2", "DATASET_ID": "mine.jsonl"}, EMBEDDED)
    assert layered == {"SEED": "1", "DATASET_ID": "mine.jsonl", "MODEL_ID": "embedded", "MAX_TOKENS": "96"}


@pytest.mark.parametrize("layer", ["environment", "dotenv"])
def test_own_model_runs_without_the_embedded_default(script: ModuleType, layer: str) -> None:
    mine = {"MODEL_ID": "mine", "DATASET_ID": "mine.jsonl"}
    layers = (mine, {}) if layer == "environment" else ({}, mine)
    assert script.layered(*layers, EMBEDDED) == mine


def test_empty_variables_of_the_environment_and_of_the_file_count_as_unset(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MODEL_ID=\nSEED=3\nSTOP='[\"###\"]'\n")
    dotenv = script.read(tmp_path / ".env")
    assert dotenv == {"SEED": "3", "STOP": '["###"]'}
    assert script.layered({"SEED": "", "MAX_TOKENS": ""}, dotenv, EMBEDDED) == EMBEDDED | dotenv


def test_missing_dotenv_is_no_error(script: ModuleType, tmp_path: Path) -> None:
    assert script.read(tmp_path / ".env") == {}
