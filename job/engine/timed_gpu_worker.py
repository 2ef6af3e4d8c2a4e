"""vLLM's worker for NVIDIA and AMD, timed. Imported by vLLM in its own processes only."""

# mypy: disable-error-code="misc"

from vllm.v1.worker.gpu_worker import Worker

from job.engine.timed_worker import Timed


class TimedGpuWorker(Timed, Worker):
    """Its start is timed."""
