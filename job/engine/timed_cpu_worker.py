"""vLLM's worker for the CPU, timed. Imported by vLLM in its own processes only, on a CPU: it has torch take that for a GPU."""

# mypy: disable-error-code="misc"

from vllm.v1.worker.cpu_worker import CPUWorker

from job.engine.timed_worker import Timed


class TimedCpuWorker(Timed, CPUWorker):
    """Its start is timed."""
