"""Real vLLM, a real model, greedy: the answers are the model's own, and the folder around them is right."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.e2e.conftest import QUESTIONS
from tests.support import Outcome, read_table, run_job

pytestmark = [pytest.mark.slow, pytest.mark.vllm]


def by_transformers(model: Path, questions: list[str], max_new_tokens: int) -> list[str]:
    """Greedy answers in float32 from the same weights, one question at a time."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    answers = []
    for question in questions:
        messages = [{"role": "user", "content": question}]
        inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        output = network.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
        answers.append(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return answers


def test_capital_of_france_is_paris_and_all_answers_are_those_of_transformers(model: Path, greedy_folder: Path) -> None:
    answers: list[Any] = read_table(greedy_folder)["answers"].to_pylist()
    assert "Paris" in answers[0]
    assert answers == by_transformers(model, QUESTIONS, max_new_tokens=32)


def test_rows_keep_order_and_source_columns(greedy_folder: Path) -> None:
    table = read_table(greedy_folder)
    assert table["instruction"].to_pylist() == QUESTIONS
    assert table["n"].to_pylist() == list(range(len(QUESTIONS)))
    assert set(table["finish_reason"].to_pylist()) <= {"stop", "length"}
    prompt = table["prompt"][0].as_py()
    assert prompt.endswith("<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n")


def test_load_dataset_gives_the_same_rows(greedy_folder: Path, tmp_path: Path) -> None:
    loaded = datasets.load_dataset(str(greedy_folder), split="test", cache_dir=str(tmp_path))
    assert loaded.to_list() == read_table(greedy_folder).to_pylist()


def test_manifest_says_what_ran(greedy_folder: Path) -> None:
    manifest = json.loads((greedy_folder / "run.json").read_text())
    assert manifest["engine"]["version"] == "0.32.0"
    assert manifest["engine"]["dtype"] == "float32"
    assert manifest["engine"]["stop_token_ids"] == [2]
    assert manifest["counts"]["rows"] == len(QUESTIONS)
    seconds = manifest["seconds"]
    parts = {name: seconds[name] for name in seconds if name.startswith("engine_start.")}
    assert {f"engine_start.{part}" for part in ("import", "config", "spawn", "weights", "compile", "capture")} <= parts.keys()
    assert parts["engine_start.weights"] > 0
    assert sum(parts.values()) == pytest.approx(seconds["engine_start"], rel=0.1)


def test_the_canary_found_no_answer_that_depends_on_company(greedy_folder: Path, greedy_run: Outcome) -> None:
    manifest = json.loads((greedy_folder / "run.json").read_text())
    record = manifest["engine"]["canary"]
    assert (record["judged"], record["differing"], record["in_company"], record["tokens"]) == (8, 0, 16, 4)
    assert len(record["answered"]) == 64
    assert manifest["seconds"]["canary"] < 30
    (sung,) = greedy_run.of("canary_answered")
    assert (sung["judged"], sung["differing"]) == (8, 0)
    assert "| canary | 0 of 8 fixed prompts got another answer" in (greedy_folder / "README.md").read_text()


def test_every_line_is_json_and_nothing_else_is_said(greedy_run: Outcome) -> None:
    # run_job parses every line of standard output; the engine's own processes are among those who wrote them.
    assert {"job", "vllm.v1.engine.core", "vllm.v1.worker.cpu_worker"} <= {line["logger"] for line in greedy_run.events}
    assert greedy_run.stderr == ""


def test_same_command_again_loads_no_model(greedy_settings: dict[str, object], greedy_folder: Path) -> None:
    again = run_job(**greedy_settings)
    assert again.code == 0
    assert again.last["generated_rows"] == 0
    assert again.last["seconds"] < 5
    assert not [line for line in again.events if line["logger"].startswith("vllm")]


def test_settings_that_do_not_fit_the_model_end_before_its_weights_are_read(greedy_settings: dict[str, object]) -> None:
    outcome = run_job(**(greedy_settings | {"MAX_MODEL_LEN": 100_000}))
    assert outcome.code == 78
    assert "MAX_MODEL_LEN='100000': does not fit the model or this machine: " in outcome.last["message"]
    assert not outcome.of("engine_ready")
