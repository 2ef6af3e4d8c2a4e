"""What has vLLM's workers say how many seconds each part of their start takes. Imported in vLLM's processes only."""

# What this is mixed with has no types.
# mypy: disable-error-code="misc"

import time
from collections.abc import Callable, Mapping
from typing import Any

from job.stopwatch import Stopwatch

_IMPORTED = time.monotonic()


class Timed:
    """The steps of vLLM 0.32's start, in their order."""

    vllm_config: Any
    model_runner: Any

    def start_seconds(self) -> Mapping[str, float]:
        """Seconds by phase; `imported`: when this process came so far, by the monotonic clock that all processes share."""
        return {"imported": _IMPORTED, **self._watch.seconds}

    @property
    def _watch(self) -> Stopwatch:
        watch: Stopwatch = self.__dict__.setdefault("_job_watch", Stopwatch())
        return watch

    def init_device(self) -> None:
        with self._watch.phase("device"):
            super().init_device()

    def load_model(self, **options: Any) -> None:
        with self._watch.phase("weights"):
            super().load_model(**options)

    def determine_available_memory(self) -> int:
        with self._watch.phase("profile"):
            memory: int = super().determine_available_memory()
        compiled: float = self.vllm_config.compilation_config.compilation_time
        self._watch.seconds["compile"] = compiled  # part of the profiling run, its first
        self._watch.seconds["profile"] -= compiled
        return memory

    def initialize_from_config(self, kv_cache_config: Any) -> None:
        with self._watch.phase("kv_cache"):
            super().initialize_from_config(kv_cache_config)

    def compile_or_warm_up_model(self) -> Any:
        self.model_runner.capture_model = self._captured(self.model_runner.capture_model)
        self._watch.seconds["capture"] = 0.0
        with self._watch.phase("warm_up"):
            times = super().compile_or_warm_up_model()
        self._watch.seconds["warm_up"] -= self._watch.seconds["capture"]
        return times

    def _captured(self, capture: Callable[[], int]) -> Callable[[], int]:
        def timed() -> int:
            with self._watch.phase("capture"):
                return capture()

        return timed
