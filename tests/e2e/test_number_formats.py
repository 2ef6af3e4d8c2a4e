"""How the model is to be computed reaches vLLM, and what its build for CPUs cannot do is said before weights are read."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from job.engine import cpu_build
from job.engine.effective import effective_facts
from job.engine.vllm import VllmBackend
from job.errors import SettingsError
from job.local_files import LocalFiles
from job.records import Source
from tests.support import run_job
from tests.unit.builders import settings

if TYPE_CHECKING:
    from vllm.config import VllmConfig

# What torch and vLLM warn of when they are imported is theirs.
pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]


def checked(model: Path, **variables: object) -> "VllmConfig":
    """vLLM's own configuration of an engine, as it is before the engine is started."""
    local = LocalFiles("model", Source(str(model), "sha256:0", local=True), any_format=False)
    return VllmBackend(settings(MODEL_ID=model, **variables), local)._engine_config(model, 1)


@pytest.mark.parametrize(
    ("variables", "effective"),
    [
        ({}, {"dtype": "bfloat16", "quantization": None, "kv_cache_dtype": "auto", "tensor_parallel_size": 1}),
        ({"DTYPE": "float16"}, {"dtype": "float16"}),
        ({"DTYPE": "float32"}, {"dtype": "float32"}),
        ({"QUANTIZATION": "fp8_per_channel"}, {"quantization": "fp8_per_channel"}),
        ({"KV_CACHE_DTYPE": "fp8"}, {"kv_cache_dtype": "fp8"}),
        ({"KV_CACHE_DTYPE": "bfloat16"}, {"kv_cache_dtype": "bfloat16"}),
        ({"TENSOR_PARALLEL_SIZE": 3}, {"tensor_parallel_size": 3}),
    ],
    ids=str,
)
def test_vllm_is_configured_as_the_settings_say(model: Path, variables: dict[str, object], effective: dict[str, Any]) -> None:
    facts = effective_facts(checked(model, **variables))
    assert {name: facts[name] for name in effective} == effective


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({"QUANTIZATION": "fp8"}, "QUANTIZATION='fp8': vLLM's build for CPUs cannot quantise weights to that"),
        ({"QUANTIZATION": "nonsense"}, "QUANTIZATION='nonsense': does not fit the model or this machine: Unknown quantization"),
        ({"QUANTIZATION": "awq"}, "QUANTIZATION='awq': does not fit the model or this machine: Cannot find the config file"),
        ({"QUANTIZATION": "torchao"}, "QUANTIZATION='torchao': does not fit the model or this machine: TorchAOConfig"),
        (
            {"QUANTIZATION": "fp8", "DTYPE": "float32"},
            "QUANTIZATION='fp8': does not fit the model or this machine: torch.float32 is not supported for quantization",
        ),
        ({"KV_CACHE_DTYPE": "nvfp4"}, "KV_CACHE_DTYPE='nvfp4': vLLM's attention on CPUs gives wrong answers with that: take"),
        ({"KV_CACHE_DTYPE": "float16"}, "take one of auto, fp8, fp8_e4m3, fp8_e5m2, bfloat16"),
        (
            {"TENSOR_PARALLEL_SIZE": 2},
            "TENSOR_PARALLEL_SIZE='2': does not fit the model or this machine: Total number of attention heads (9) must be di",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_computed_is_refused_by_its_variable(model: Path, variables: dict[str, object], shown: str) -> None:
    with pytest.raises(SettingsError) as caught:
        checked(model, **variables)
    assert shown in str(caught.value)
    assert "input_value" not in str(caught.value)


def test_the_kernel_that_fp8_needs_is_one_that_this_build_lacks() -> None:
    """Once it has it, `cpu_build` may let fp8 pass."""
    import torch
    import vllm._custom_ops  # noqa: F401 (registers the kernels)

    assert not torch.ops._C.static_scaled_fp8_quant.default._schema.arguments
    assert set(cpu_build._LACKING) == {"fp8", "fp8_per_tensor"}


def test_the_job_ends_with_78_before_weights_are_read(greedy_settings: dict[str, object], output: Path) -> None:
    # QUANTIZATION needs 16 bits, which bitwise has not on a CPU.
    chosen = {"REPRODUCIBILITY": "seeded", "QUANTIZATION": "fp8", "KV_CACHE_DTYPE": "nvfp4", "OUTPUT_DIR": output}
    outcome = run_job(**(greedy_settings | chosen))
    assert outcome.code == 78
    assert "QUANTIZATION='fp8': vLLM's build for CPUs cannot" in outcome.last["message"]
    assert "KV_CACHE_DTYPE='nvfp4': vLLM's attention on CPUs" in outcome.last["message"]
    assert "take fp8_per_channel, or run on a GPU" in outcome.last["message"]
    assert not outcome.of("engine_ready")
    assert not [line for line in outcome.events if line["logger"].startswith(("vllm.v1.engine.core", "vllm.v1.worker"))]
    assert outcome.last["seconds"] < 30
