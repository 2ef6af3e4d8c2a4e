"""The embedded model, and a finished run of it that several tests look at."""

from pathlib import Path

import pytest

from tests.support import ROOT, Outcome, results_folder, run_job, write_jsonl

MODEL = ROOT / ".cache" / "models" / "SmolLM2-135M-Instruct"
QUESTIONS = [
    "What is the capital of France?",
    "What is the capital of Japan?",
    "Name three primary colours.",
    "What is 2 + 2?",
    "Write one sentence about the sea.",
    "Translate 'good morning' into Spanish.",
    "Who wrote Romeo and Juliet?",
    "List two animals that can fly.",
    'What does {"a": 1} mean in JSON? 🙂',
    "Give me a synonym for 'happy'.",
]
# vLLM refuses to start where less memory is free than it may use, however little it takes: two engines are at work.
BESIDE_ANOTHER = {"GPU_MEMORY_UTILIZATION": 0.3}
ENGINE = {"REPRODUCIBILITY": "bitwise", "MAX_MODEL_LEN": 2048, "KV_CACHE_MEMORY_BYTES": 2**30, **BESIDE_ANOTHER}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first: of two processes that share the files, none is left alone with it in the end."""
    longest = Path(__file__).with_name("test_kills.py")
    items.sort(key=lambda item: item.path != longest)


@pytest.fixture(scope="session")
def model() -> Path:
    if not (MODEL / "config.json").exists():
        pytest.fail(f"{MODEL} is missing: run `make setup`")
    return MODEL


@pytest.fixture(scope="session")
def greedy_settings(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Greedy answers to QUESTIONS in the model's chat template."""
    folder = tmp_path_factory.mktemp("greedy")
    dataset = write_jsonl(folder / "questions.jsonl", [{"instruction": text, "n": n} for n, text in enumerate(QUESTIONS)])
    chat = {"PROMPT_TEMPLATE": "chat", "TEMPERATURE": 0, "MAX_TOKENS": 32}
    return {"MODEL_ID": model, "DATASET_ID": dataset, "OUTPUT_DIR": folder / "results", **chat, **ENGINE}


@pytest.fixture(scope="session")
def greedy_run(greedy_settings: dict[str, object]) -> Outcome:
    return run_job(**greedy_settings)


@pytest.fixture(scope="session")
def greedy_folder(greedy_settings: dict[str, object], greedy_run: Outcome) -> Path:
    assert greedy_run.code == 0, greedy_run.last
    return results_folder(Path(str(greedy_settings["OUTPUT_DIR"])))
