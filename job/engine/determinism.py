"""REPRODUCIBILITY=bitwise: an answer is the same bytes whatever else is answered beside it.

On a CPU float32 is enough for that. On a GPU three things are needed with vLLM 0.32, as measured in benchmarks/RESULTS.md:

- its own batch-invariant mode (VLLM_BATCH_INVARIANT), for the layers;
- Triton's attention: FlashAttention 3, its first choice on Hopper, rounds otherwise where a step has prompts beside answers;
- top-k and top-p of our own (`bitwise_sampling`), as those of vLLM depend on how many rows are sampled.

And two make it bearable on Hopper: tiles that fit the number of rows (`bitwise_matmul`) and the answers (`bitwise_attention`).

The noise is drawn from a row's seed and the token's position alone.
"""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from job.errors import Problem, SettingsError
from job.settings import EngineSettings

# What is replaced in vLLM.
REPLACED = (
    ("vllm.v1.sample.ops.topk_topp_sampler", "apply_top_k_top_p_triton"),
    ("vllm.model_executor.determinism.batch_invariant", "_get_matmul_config"),
    ("vllm.v1.attention.ops.triton_unified_attention", "kernel_unified_attention"),
)
# Of what this job replaces: counts up whenever that rounds otherwise, and answers with it get another identity.
KERNELS = 2
WORKER = "job.engine.bitwise_worker.BitwiseWorker"
ENGINE_ARGS: Mapping[str, Any] = {"worker_extension_cls": WORKER, "attention_config": {"backend": "TRITON_ATTN"}}
_ALSO_ATTENTION = "attention_backend"
_MODE = "VLLM_BATCH_INVARIANT"


def set_mode(*, batch_invariant: bool) -> None:
    """Before vLLM is imported: it reads the mode then, and its processes inherit it. Without it set, the user's would count.

    For GPUs only: its kernels are Triton's, which the CPU build has not.
    """
    os.environ[_MODE] = "1" if batch_invariant else "0"


def check_replaceable() -> None:
    """On a GPU, before anything is loaded. Raises: SettingsError where this vLLM lacks what is to be replaced."""
    for module, name in REPLACED:
        try:
            there = hasattr(import_module(module), name)
        except ImportError:
            there = False
        if not there:
            message = (
                f"needs {name} in {module}, which this version of vLLM does not have: use the version that this job is "
                f"pinned to, or REPRODUCIBILITY=seeded"
            )
            raise SettingsError([Problem("REPRODUCIBILITY", "bitwise", message)])


def check(settings: EngineSettings, *, on_cpu: bool) -> None:
    """Raises: SettingsError for a number format whose sums depend on the batch, and for what would undo the rest."""
    if on_cpu and settings.dtype not in ("auto", "float32"):
        message = "REPRODUCIBILITY=bitwise needs float32 on a CPU: leave DTYPE out, or take REPRODUCIBILITY=seeded"
        raise SettingsError([Problem("DTYPE", settings.dtype, message)])
    if taken := [name for name in (*ENGINE_ARGS, _ALSO_ATTENTION) if name in settings.engine_args]:
        message = f"REPRODUCIBILITY=bitwise sets {' and '.join(taken)} by itself: leave it out, or take REPRODUCIBILITY=seeded"
        raise SettingsError([Problem("ENGINE_ARGS", str(settings.engine_args), message)])
