"""Number formats that vLLM 0.32 takes on a CPU and cannot work with there. It would notice after it has read the weights, or
not at all: with a KV cache in most of its formats, the answers are garbage.
"""

from typing import TYPE_CHECKING

from job.errors import Problem, SettingsError
from job.settings import EngineSettings

if TYPE_CHECKING:
    from vllm.config import VllmConfig

_LACKING = ("fp8", "fp8_per_tensor")  # both are the same


def check(config: "VllmConfig", engine: EngineSettings) -> None:
    """On a CPU, before a weight is read. Raises: SettingsError for a format that needs a GPU."""
    problems = []
    if engine.quantization in _LACKING and _quantizes_itself(config):
        message = (
            "vLLM's build for CPUs cannot quantise weights to that, as it lacks static_scaled_fp8_quant: leave QUANTIZATION "
            "out, take fp8_per_channel, or run on a GPU"
        )
        problems.append(Problem("QUANTIZATION", engine.quantization, message))
    allowed = _kv_cache_dtypes(config)
    if config.cache_config.cache_dtype not in allowed:
        message = f"vLLM's attention on CPUs gives wrong answers with that: take one of {', '.join(allowed)}"
        problems.append(Problem("KV_CACHE_DTYPE", engine.kv_cache_dtype, message))
    if problems:
        raise SettingsError(problems)


def _quantizes_itself(config: "VllmConfig") -> bool:
    """Whether the weights are quantised while they are loaded, rather than in the model's files."""
    from vllm.model_executor.layers.quantization.online.base import OnlineQuantizationConfig

    return isinstance(config.quant_config, OnlineQuantizationConfig)


def _kv_cache_dtypes(config: "VllmConfig") -> list[str]:
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    own = str(config.model_config.dtype).removeprefix("torch.")
    return [*CPUAttentionBackend.supported_kv_cache_dtypes, own]
