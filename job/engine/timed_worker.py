"""What has vLLM's workers say how many seconds each part of their start takes. Imported in vLLM's processes only."""

# What this is mixed with has no types.
# mypy: disable-error-code="misc"

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_IMPORTED = time.monotonic()


class Timed:
    """The steps of vLLM 0.32's start, in their order."""

    vllm_config: Any
    model_runner: Any

    def start_seconds(self) -> Mapping[str, float]:
        """Seconds by phase; `imported`: when this process came so far, by the monotonic clock that all processes share."""
        return {"imported": _IMPORTED, **self._seconds}

    @property
    def _seconds(self) -> dict[str, float]:
        seconds: dict[str, float] = self.__dict__.setdefault("_job_seconds", {})
        return seconds

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self._seconds[name] = time.monotonic() - started

    def init_device(self) -> None:
        with self._phase("device"):
            super().init_device()

    def load_model(self, **options: Any) -> None:
        with self._phase("weights"):
            super().load_model(**options)

    def determine_available_memory(self) -> int:
        with self._phase("profile"):
            memory: int = super().determine_available_memory()
        compiled: float = self.vllm_config.compilation_config.compilation_time
        self._seconds["compile"] = compiled  # part of the profiling run, its first
        self._seconds["profile"] -= compiled
        return memory

    def initialize_from_config(self, kv_cache_config: Any) -> None:
        with self._phase("kv_cache"):
            super().initialize_from_config(kv_cache_config)

    def compile_or_warm_up_model(self) -> Any:
        self.model_runner.capture_model = self._captured(self.model_runner.capture_model)
        self._seconds["capture"] = 0.0
        with self._phase("warm_up"):
            times = super().compile_or_warm_up_model()
        self._seconds["warm_up"] -= self._seconds["capture"]
        return times

    def _captured(self, capture: Callable[[], int]) -> Callable[[], int]:
        def timed() -> int:
            with self._phase("capture"):
                return capture()

        return timed
