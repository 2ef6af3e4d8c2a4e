"""What vLLM works with in the end, as its own configuration says: for run.json."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def effective_facts(config: "VllmConfig") -> Mapping[str, object]:
    """Versions, device and settings."""
    import torch
    from vllm.platforms import current_platform

    lora = {"max_lora_rank": config.lora_config.max_lora_rank} if config.lora_config else {}
    return {
        "torch": torch.__version__,
        "device": current_platform.get_device_name(),
        "dtype": dtype_of(config),
        "quantization": config.model_config.quantization,
        "kv_cache_dtype": config.cache_config.cache_dtype,
        "tensor_parallel_size": config.parallel_config.tensor_parallel_size,
        "gpus": 0 if current_platform.is_cpu() else config.parallel_config.world_size_across_dp,
        **lora,
        "max_num_seqs": config.scheduler_config.max_num_seqs,
        "enforce_eager": config.model_config.enforce_eager,
        "compilation_mode": getattr(config.compilation_config.mode, "name", None),
        "cudagraph_mode": getattr(config.compilation_config.cudagraph_mode, "name", None),
        "stop_token_ids": sorted(_stop_token_ids(config)),
    }


def dtype_of(config: "VllmConfig") -> str:
    """The number format of the computation."""
    return str(config.model_config.dtype).removeprefix("torch.")


def _stop_token_ids(config: "VllmConfig") -> set[int]:
    """The ids that end an answer, as the model's own files name them: a wrong list makes answers run on to MAX_TOKENS."""
    ids = config.model_config.try_get_generation_config().get("eos_token_id", [])
    return {ids} if isinstance(ids, int) else set(ids)
