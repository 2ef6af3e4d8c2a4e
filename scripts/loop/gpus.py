"""Which GPUs a model gets, and which part of their memory where several models share them.

vLLM 0.32 refuses to start where less memory is free than GPU_MEMORY_UTILIZATION asks for, also where the KV cache has a fixed
size (vllm/v1/worker/utils.py, request_memory). With a fixed size it asks for nothing else, and does not measure what is free
while its neighbours allocate and free theirs. So each gets a fixed KV cache, and its part of GPU_MEMORY_UTILIZATION.
"""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from job.errors import Problem, SettingsError

QUERY = ("nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")
# What a model needs beside its weights and its KV cache: activations, CUDA graphs, the CUDA context. An estimate.
WORKING_MEMORY = 4 * 2**30
_LEAST_CACHE = 2**30
_MIB = 2**20


@dataclass(frozen=True)
class Gpu:
    """memory: in bytes, None where the driver does not say."""

    index: str
    uuid: str
    memory: int | None


@dataclass(frozen=True)
class Slot:
    """Where a model runs. gpus: none on a CPU; share: how many models there are on them at once."""

    gpus: tuple[Gpu, ...]
    share: int

    @property
    def shares_gpus(self) -> bool:
        return bool(self.gpus) and self.share > 1


def found_gpus(visible: str | None) -> list[Gpu]:
    """The GPUs of this machine; visible: CUDA_VISIBLE_DEVICES, None where it is not set."""
    if not shutil.which(QUERY[0]):
        return []
    asked = subprocess.run(QUERY, capture_output=True, text=True, check=False)
    return parsed(asked.stdout, visible) if asked.returncode == 0 else []


def parsed(answer: str, visible: str | None) -> list[Gpu]:
    """The GPUs in nvidia-smi's answer to QUERY, in the order of `visible` where that names them."""
    gpus = []
    for index, uuid, memory in (line.split(", ") for line in answer.splitlines()):
        gpus.append(Gpu(index, uuid, int(memory) * _MIB if memory.isdecimal() else None))
    if visible is None:
        return gpus
    wanted = [word.strip() for word in visible.split(",") if word.strip()]
    return [
        gpu for word in wanted for gpu in gpus if word == gpu.index or (word.startswith("GPU-") and gpu.uuid.startswith(word))
    ]


def slots(gpus: Sequence[Gpu], parallel: int, gpus_each: int) -> list[Slot]:
    """`parallel` places to run a model at: one has all GPUs, several have `gpus_each` each, shared where there are too few.

    Raises: SettingsError where there are too few GPUs for one.
    """
    if parallel == 1 or not gpus:
        return [Slot(tuple(gpus), parallel)] * parallel
    groups = [tuple(gpus[first : first + gpus_each]) for first in range(0, len(gpus) - gpus_each + 1, gpus_each)]
    if not groups:
        message = f"is more than the {len(gpus)} GPUs that are here"
        raise SettingsError([Problem("TENSOR_PARALLEL_SIZE", str(gpus_each), message)])
    chosen = [groups[number % len(groups)] for number in range(parallel)]
    return [Slot(group, chosen.count(group)) for group in chosen]


def check(slot: Slot, environ: Mapping[str, str]) -> None:
    """Be sure that the memory of models side by side can be divided. Raises: SettingsError."""
    if slot.share == 1 or environ.get("ENGINE") == "echo" or environ.get("KV_CACHE_MEMORY_BYTES"):
        return
    if not slot.gpus:
        message = "is required for several models at once on a CPU: vLLM would take most of the memory for each of them"
        raise SettingsError([Problem("KV_CACHE_MEMORY_BYTES", None, message)])
    if any(gpu.memory is None for gpu in slot.gpus):
        message = "is required for several models on one GPU here: nvidia-smi does not say how much memory it has"
        raise SettingsError([Problem("KV_CACHE_MEMORY_BYTES", None, message)])


def memory(slot: Slot, environ: Mapping[str, str], utilization: float, weights: int | None) -> dict[str, str]:
    """The variables that keep a model to its part of the GPUs' memory.

    utilization: the part of the memory that all models together may use; weights: bytes of the model's, None where they are not
    known: then vLLM measures what is left of its part, which can fail while a neighbour ends.
    Raises: SettingsError where the weights leave no room.
    """
    if not slot.shares_gpus:
        return {}
    part = {"GPU_MEMORY_UTILIZATION": f"{utilization / slot.share:.4f}"}
    if weights is None or environ.get("KV_CACHE_MEMORY_BYTES"):
        return part
    least = min(gpu.memory or 0 for gpu in slot.gpus) * utilization / slot.share
    cache = int(least - weights / len(slot.gpus) - WORKING_MEMORY)
    if cache < _LEAST_CACHE:
        message = (
            f"leaves {least / 1e9:.1f} GB of each GPU to a model, and its weights are {weights / len(slot.gpus) / 1e9:.1f} GB. "
            f"Beside them, {(WORKING_MEMORY + _LEAST_CACHE) / 1e9:.1f} GB are needed at least: choose a smaller number"
        )
        raise SettingsError([Problem("PARALLEL", str(slot.share), message)])
    return part | {"KV_CACHE_MEMORY_BYTES": str(cache)}
