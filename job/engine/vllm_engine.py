"""An engine of vLLM that has its weights: requests in, completions out. job.engine.vllm makes it.

The loop is `add_request` and `step`: rows come back as they finish, and the next ones are fed while others are being
answered, so no batch is waited for.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from job.engine import determinism, startup
from job.engine.adapter import Adapter
from job.engine.effective import effective_facts
from job.engine.postmortem import Watch
from job.engine.running import Running
from job.errors import EngineError
from job.records import ANSWERED, Completion, Load, Request

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.llm_engine import LLMEngine

# Requests in flight, in multiples of what the engine works on at once: enough for it never to wait for the next one.
_WINDOW_FACTOR = 2
_WATCH_SECONDS = 0.5


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


def _completion(output: "RequestOutput") -> Completion:
    """vLLM finishes requests that it gave up on as well ("abort", "error"): those are not answers."""
    # vLLM appends a random suffix to the ids it works with, and gives back the one it was called with.
    position, sample = map(int, output.request_id.split("/"))
    (answer,) = output.outputs
    tokens = len(answer.token_ids)
    if answer.finish_reason in ANSWERED:
        return Completion(position, sample, answer.text, answer.finish_reason, tokens)
    return Completion(position, sample, None, "error", tokens, f"vLLM ended it with {answer.finish_reason}")
