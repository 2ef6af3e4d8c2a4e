"""What of vLLM's own objects the job reads, for tests that give it an engine without a model."""

from types import SimpleNamespace
from typing import Any


def vllm_config() -> Any:
    return SimpleNamespace(
        model_config=SimpleNamespace(
            dtype="torch.float32", quantization=None, enforce_eager=True, try_get_generation_config=dict
        ),
        cache_config=SimpleNamespace(cache_dtype="auto"),
        parallel_config=SimpleNamespace(tensor_parallel_size=1),
        scheduler_config=SimpleNamespace(max_num_seqs=1),
        compilation_config=SimpleNamespace(mode=None, cudagraph_mode=None),
        lora_config=None,
    )
