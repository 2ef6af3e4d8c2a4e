"""What ENGINE_ARGS may not say: what a variable of its own sets, and what names Python code to be run.

The names are vLLM 0.32's, with a dot where they lie in an object; a test holds them against the vLLM that is installed.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

# What a named variable sets, by the engine's own names for it.
NAMED = {
    "model": "MODEL_ID",
    "model_weights": "MODEL_ID",
    "hf_config_path": "MODEL_ID",
    "tokenizer": "MODEL_ID",
    "revision": "MODEL_REVISION",
    "tokenizer_revision": "MODEL_REVISION",
    "code_revision": "MODEL_REVISION",
    "enable_lora": "LORA_ID",
    "default_mm_loras": "LORA_ID",
    "trust_remote_code": "TRUST_REMOTE_CODE",
    "seed": "SEED",
    "override_generation_config.temperature": "TEMPERATURE",
    "override_generation_config.top_p": "TOP_P",
    "override_generation_config.min_p": "MIN_P",
    "override_generation_config.top_k": "TOP_K",
    "override_generation_config.repetition_penalty": "REPETITION_PENALTY",
    "override_generation_config.max_new_tokens": "MAX_TOKENS",
    "max_model_len": "MAX_MODEL_LEN",
    "dtype": "DTYPE",
    "quantization": "QUANTIZATION",
    "kv_cache_dtype": "KV_CACHE_DTYPE",
    "tensor_parallel_size": "TENSOR_PARALLEL_SIZE",
    "gpu_memory_utilization": "GPU_MEMORY_UTILIZATION",
    "kv_cache_memory_bytes": "KV_CACHE_MEMORY_BYTES",
    "enforce_eager": "ENFORCE_EAGER",
    "hf_token": "HF_TOKEN",
    "download_dir": "HF_HOME",
    "log_level": "LOG_LEVEL",
    "log_config_file": "LOG_FORMAT",
    "logging_config": "LOG_FORMAT",
}
_NO_CODE = ("inductor", "eager", "")
_EXECUTORS = ("mp", "uni", "ray", "external_launcher")


def _any(_value: object) -> bool:
    return True


def _is_import_path(model: object) -> bool:
    """As vLLM tells the class of a proposer from a model."""
    return isinstance(model, str) and bool(re.fullmatch(r"\w+(\.\w+)+", model))


# What makes vLLM import a module, class or file of the user's choice, and for which values it does.
CODE: Mapping[str, Callable[[object], bool]] = {
    "worker_cls": lambda value: value != "auto",
    "worker_extension_cls": _any,
    "scheduler_cls": _any,
    "logits_processors": _any,
    "model_class_overrides": _any,
    "io_processor_plugin": _any,
    "reasoning_parser_plugin": _any,
    "structured_outputs_config.reasoning_parser_plugin": _any,
    "distributed_executor_backend": lambda value: value not in _EXECUTORS,
    "compilation_config.backend": lambda value: value not in _NO_CODE,
    "compilation_config.inductor_passes": _any,
    "spec_method": lambda value: value == "custom_class",
    "spec_model": _is_import_path,
    "speculative_config.method": lambda value: value == "custom_class",
    "speculative_config.model": _is_import_path,
    # Connectors between servers name code in several places, in objects that only they know.
    "kv_transfer_config": _any,
    "ec_transfer_config": _any,
    "ec_manager_config": _any,
}


def refused(engine_args: Mapping[str, Any], *, trust_remote_code: bool) -> Iterator[tuple[str, str]]:
    """The arguments that are not to be passed on, by their outermost names, and why."""
    for name, value in engine_args.items():
        if "-" in name:
            yield name, f"{name} is an option of the command line: write {name.replace('-', '_')}"
        for path, inner in _paths(name, value):
            if variable := NAMED.get(path):
                yield name, f"{path} is set by {variable}: use that variable"
            elif path in CODE and CODE[path](inner) and not trust_remote_code:
                yield name, f"{path} names Python code to run: read that code, then set TRUST_REMOTE_CODE=true"


def _paths(name: str, value: object) -> Iterator[tuple[str, object]]:
    """An argument, and what lies in it if it is an object."""
    name = name.replace("-", "_")
    yield name, value
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield f"{name}.{key}", inner
