"""How vLLM gets to its first token: what it is told, and how long each part takes.

What a start costs on a GPU, and what was tried, is in benchmarks/RESULTS.md, section start.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from job.settings import EngineSettings
from job.stopwatch import Stopwatch

# Graphs of whole steps from vLLM's own kernels: as fast as what torch.compile makes, and ready in seconds. On Hopper, where
# that was measured. Only of steps without prompts: with prompts in a graph ("FULL"), vLLM 0.32 gives noise instead of answers
# on Hopper (FlashAttention 3; with Triton's attention some answers are wrong).
GRAPHS: Mapping[str, Any] = {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}
HOPPER = 9
_FEW = 512  # requests: as many as vLLM captures graphs for by itself
_MOST = 1024  # requests that vLLM works on at once, where nothing else is set
# Arguments with which ENGINE_ARGS decide on all of this.
_THEIRS = ("compilation_config", "optimization_level", "cudagraph_capture_sizes", "max_cudagraph_capture_size")
_SPECULATION = "speculative_config"
_METHOD = "VLLM_WORKER_MULTIPROC_METHOD"
WORKERS = "job.engine.timed_"
_WORKER_NAMES = {
    "cpu": f"{WORKERS}cpu_worker.TimedCpuWorker",
    "cuda": f"{WORKERS}gpu_worker.TimedGpuWorker",
    "rocm": f"{WORKERS}gpu_worker.TimedGpuWorker",
}


def start_seconds(before: Stopwatch, began: float, workers: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """All phases of a start, once the engine is ready.

    before: the phases before the engine; began: when that was started; workers: what each of them says, the slowest counts.
    """
    seconds = {**before.seconds, "engine": time.monotonic() - began}
    if workers:
        slowest = {name: max(worker[name] for worker in workers) for name in workers[0]}
        parts = {"spawn": max(slowest.pop("imported") - began, 0.0), **slowest}
        seconds |= {**parts, "engine": seconds["engine"] - sum(parts.values())}
    return {name: round(value, 3) for name, value in seconds.items()}


def gpu_capability() -> int | None:
    """The major number of the GPU's compute capability, None for none of NVIDIA's."""
    from vllm.platforms import current_platform

    found = current_platform.get_device_capability() if current_platform.is_cuda() else None
    return found.major if found else None


def compiles(settings: EngineSettings, capability: int | None) -> bool:
    """Whether torch.compile may be at work. capability: the GPU's major number, None for none of NVIDIA's."""
    if any(name in settings.engine_args for name in _THEIRS):
        return True
    return settings.compile_model if settings.compile_model is not None else capability != HOPPER


def compilation(settings: EngineSettings, requests: int, capability: int | None) -> dict[str, Any]:
    """vLLM's arguments for graphs and compilation, on a GPU; none, where ENGINE_ARGS say something of them.

    requests: how many answers are to be generated. Graphs for more at once than there are would be captured in vain.
    """
    if settings.enforce_eager or any(name in settings.engine_args for name in _THEIRS):
        return {}
    compiled = compiles(settings, capability)
    chosen = {} if compiled else dict(GRAPHS)
    if requests < _FEW and _SPECULATION not in settings.engine_args:  # with it, each has several tokens in a step
        chosen["max_cudagraph_capture_size"] = _captured_sizes(requests)[-1]
    elif not compiled:
        chosen["cudagraph_capture_sizes"] = _captured_sizes(_MOST)
    return {"compilation_config": chosen} if chosen else {}


def _captured_sizes(largest: int) -> list[int]:
    """Answers in a step that graphs are captured for: vLLM's own choice up to 512, and coarser above. The last is enough
    for the largest."""
    sizes = [1, 2, 4, *range(8, 256, 8), *range(256, 512, 16), *range(512, _MOST + 1, 32)]
    return sizes[: next(number for number, size in enumerate(sizes, 1) if size >= max(largest, 8))]


def worker(device: str) -> dict[str, Any]:
    """The argument that has vLLM time its workers, where there are such ones for the device."""
    name = _WORKER_NAMES.get(device)
    return {"worker_cls": name} if name else {}


def read_ahead(folder: Path) -> threading.Thread | None:
    """Have the weights read into free memory while vLLM is being imported; where they would fill it, they are left alone.

    Returns: the thread that asks for it.
    """
    weights = [file for file in folder.glob("*.safetensors") if file.is_file()]
    if sum(file.stat().st_size for file in weights) >= _free_memory() / 2:
        return None
    thread = threading.Thread(target=_read, args=(weights,), name="read-ahead", daemon=True)
    thread.start()
    return thread


def _free_memory() -> int:
    """Bytes that may be used without pushing anything out; 0 where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)


def _read(files: Sequence[Path]) -> None:
    for file in files:
        with suppress(OSError), file.open("rb") as opened:  # a hint: whoever loads the file says what is wrong with it
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


@contextmanager
def alone_in_cache(folder: Path) -> Iterator[None]:
    """One start at a time for models that are compiled: torch.compile's cache is not made for several writers.

    What Triton keeps is, and graphs are not kept at all. folder: the cache of vLLM; one that cannot be written needs no lock.
    """
    with ExitStack() as held:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(folder / "compile.lock"))
        yield


def fork_the_core() -> None:
    """Have the next process of vLLM on a CPU be a fork of this one, which has imported vLLM already.

    vLLM 0.32 starts two anew there, one from the other. Only the second, which computes, must begin with an environment of its
    own, for OpenMP.
    """
    os.environ[_METHOD] = "fork"
    os.register_at_fork(after_in_child=lambda: os.environ.update({_METHOD: "spawn"}))
