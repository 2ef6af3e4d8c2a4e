"""How many requests vLLM's scheduler has at work, as it says itself at each step, where its figures are on."""

from typing import Any


class Running:
    """requests: at work in the last step; None before there was one, and where vLLM's figures are off."""

    def __init__(self) -> None:
        self.requests: int | None = None

    def logger(self, vllm_config: object, engine_index: int = 0) -> "_Recorder":
        """What vLLM hands its figures to, of which it has a prescribed way to make one (StatLoggerBase)."""
        return _Recorder(self)


class _Recorder:
    """vLLM 0.32's StatLoggerBase, as far as it is called."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def record(self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0) -> None:
        if scheduler_stats is not None:
            self._running.requests = scheduler_stats.num_running_reqs

    def log_engine_initialized(self) -> None:
        """Nothing is said then."""

    log = log_engine_initialized

    def record_sleep_state(self, is_awake: int, level: int) -> None:
        """It never sleeps."""
