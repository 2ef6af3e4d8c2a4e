"""What ENGINE_ARGS may not say."""

import json

import pytest

from job.engine_args import CODE, NAMED
from job.settings import EngineSettings, variables
from tests.unit.builders import problems, settings

ASKS_FOR_CODE: dict[str, object] = {
    "worker_cls": "theirs.Worker",
    "worker_extension_cls": "theirs.Extension",
    "scheduler_cls": "theirs.Scheduler",
    "logits_processors": ["theirs:Processor"],
    "model_class_overrides": {"LlamaForCausalLM": "theirs:Model"},
    "io_processor_plugin": "theirs",
    "reasoning_parser_plugin": "/tmp/theirs.py",
    "structured_outputs_config": {"reasoning_parser_plugin": "/tmp/theirs.py"},
    "distributed_executor_backend": "theirs.Executor",
    "compilation_config": {"backend": "theirs.backend"},
    "spec_method": "custom_class",
    "spec_model": "theirs.Proposer",
    "speculative_config": {"model": "theirs.Proposer", "num_speculative_tokens": 2},
    "kv_transfer_config": {"kv_connector": "X", "kv_connector_module_path": "theirs"},
    "ec_transfer_config": {"ec_connector": "X", "ec_connector_module_path": "theirs"},
    "ec_manager_config": {"encoder_cache_manager_cls": "theirs.Manager"},
}


def _nested(path: str, value: object) -> str:
    """ENGINE_ARGS that sets one argument, given with a dot where it lies in an object."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return json.dumps(value)


@pytest.mark.parametrize("path", NAMED)
def test_what_a_variable_sets_is_refused_with_its_name(path: str) -> None:
    assert f"{path} is set by {NAMED[path]}: use that variable" in problems(ENGINE_ARGS=_nested(path, 1))["ENGINE_ARGS"]


def test_trust_does_not_change_that() -> None:
    assert problems(ENGINE_ARGS='{"seed": 1}', TRUST_REMOTE_CODE="true")


def test_every_variable_of_the_engine_is_among_them() -> None:
    in_other_words = {"engine", "engine_args", "reproducibility", "compile_model"}  # several arguments, which may say more
    assert set(EngineSettings.model_fields) - in_other_words <= set(NAMED)
    assert set(NAMED.values()) <= {name for _, name in variables()}


@pytest.mark.parametrize("name", ASKS_FOR_CODE)
def test_what_names_python_code_is_refused_unless_that_is_trusted(name: str) -> None:
    given = json.dumps({name: ASKS_FOR_CODE[name]})
    assert (
        "names Python code to run: read that code, then set TRUST_REMOTE_CODE=true"
        in problems(ENGINE_ARGS=given)["ENGINE_ARGS"]
    )
    assert settings(ENGINE_ARGS=given, TRUST_REMOTE_CODE="true").engine.engine_args == json.loads(given)


def test_each_of_them_is_tried() -> None:
    assert {path.split(".")[0] for path in CODE} == set(ASKS_FOR_CODE)


@pytest.mark.parametrize(
    "given",
    [
        {"max_num_seqs": 64, "load_format": "hf", "hf_overrides": {"rope_theta": 1.0}},
        {"distributed_executor_backend": "mp", "worker_cls": "auto"},
        {"compilation_config": {"backend": "inductor", "cudagraph_mode": "NONE"}},
        {"compilation_config": 3},
        {"speculative_config": {"method": "ngram", "model": "org/draft-1.5", "num_speculative_tokens": 2}},
        {"override_generation_config": {"eos_token_id": [1, 2]}},
    ],
)
def test_all_else_is_passed_on(given: dict[str, object]) -> None:
    assert settings(ENGINE_ARGS=json.dumps(given)).engine.engine_args == given


def test_a_dash_hides_nothing() -> None:
    found = problems(ENGINE_ARGS='{"max-model-len": 9}')["ENGINE_ARGS"]
    assert "max-model-len is an option of the command line: write max_model_len" in found or "set by MAX_MODEL_LEN" in found
    assert "worker_cls names Python code" in problems(ENGINE_ARGS='{"worker-cls": "theirs.Worker"}')["ENGINE_ARGS"]
    assert "write max_num_seqs" in problems(ENGINE_ARGS='{"max-num-seqs": 9}')["ENGINE_ARGS"]
