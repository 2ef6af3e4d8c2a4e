"""A LoRA adapter in vLLM: what is checked before the engine starts, and whether all of it got into the model.

vLLM 0.32 takes weights that do not belong to the model without a word. Those with names that the model does not have are left
out, so that the base model answers under the adapter's name; those for narrower layers are written into a corner of the layers.
So the shapes are compared before the engine starts, and the engine is asked afterwards what it left out.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from job.engine import determinism
from job.errors import EngineError, Problem, SettingsError
from job.local_files import ADAPTER_WEIGHTS, CONFIGS
from job.protocols import ModelFiles
from job.references import base_name
from job.settings import Settings

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.llm_engine import LLMEngine

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM 0.32 takes as max_lora_rank
WORKER = f"{__name__}.AdapterWorker"

# Initialisations that leave the model's own weights as they are; with others the adapter is meant for a changed model.
_HARMLESS_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
# What PEFT can do and vLLM cannot: how the key of adapter_config.json says that it is used, and what it is.
_REFUSED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "peft_type": (lambda kind: kind != "LORA", "an adapter that is no LoRA"),
    "use_dora": (bool, "DoRA"),
    "use_qalora": (bool, "QALoRA"),
    "use_bdlora": (bool, "block-diagonal LoRA"),
    "bias": (lambda bias: bias != "none", "trained biases"),
    "lora_bias": (bool, "biases of its own"),
    "modules_to_save": (bool, "whole modules beside the LoRA"),
    "alora_invocation_tokens": (bool, "activation by tokens"),
    "layer_replication": (bool, "replicated layers"),
    "init_lora_weights": (
        lambda init: isinstance(init, str) and init.lower() not in _HARMLESS_INITS,
        "an initialisation that changes the model's own weights",
    ),
}
_REMEDY = "merge it into the model with PEFT's merge_and_unload, and give the merged model as MODEL_ID without LORA_ID"
_ID = 1
_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
_SHOWN = 3

Rank = Annotated[int, Field(strict=True, ge=1)]
log = structlog.get_logger()


class _Config(BaseModel):
    """What adapter_config.json must say; PEFT writes more."""

    model_config = ConfigDict(frozen=True)

    r: Rank
    lora_alpha: float
    target_modules: list[str] | str | None
    rank_pattern: dict[str, Rank] | None = None
    base_model_name_or_path: str | None = None

    @property
    def ranks(self) -> set[int]:
        return {self.r, *(self.rank_pattern or {}).values()}


class Adapter:
    """The adapter that LORA_ID names."""

    def __init__(self, files: ModelFiles) -> None:
        self._files = files
        self.local = files.source.local

    def check(self, settings: Settings) -> None:
        """What the files' names and the small adapter_config.json tell. Raises: SettingsError with the remedy."""
        self._files.check()
        rank = max(self._config.ranks)
        allowed = settings.engine.engine_args.get("max_lora_rank")
        if isinstance(allowed, int) and allowed < rank:
            message = f"max_lora_rank={allowed} is too little for {self._name}, whose rank is {rank}: raise it or leave it out"
            raise SettingsError([Problem("ENGINE_ARGS", str(settings.engine.engine_args), message)])
        trained_on, model_id = self._config.base_model_name_or_path, settings.model.model_id
        if trained_on and base_name(trained_on).lower() != base_name(model_id).lower():
            log.warning("adapter_of_another_model", lora_id=self._name, trained_on=trained_on, model_id=model_id)

    def engine_args(self) -> dict[str, Any]:
        """How vLLM is to be started for it."""
        rank = next(rank for rank in RANKS if rank >= max(self._config.ranks))
        return {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank, "worker_extension_cls": WORKER}

    def check_dtype(self, dtype: str, *, on_cpu: bool) -> None:
        """vLLM's LoRA kernels for GPUs refuse float32, each in a worker and without words. Raises: SettingsError."""
        if dtype == "float32" and not on_cpu:
            message = "LoRA adapters run in float16 or bfloat16 on a GPU: choose one of them"
            raise SettingsError([Problem("DTYPE", dtype, message)])

    def fetch(self) -> None:
        """Get its weights, which are small beside the model's. Raises: SettingsError where they are damaged or not there."""
        if not any(".lora_" in name for name in self._tensors):
            raise self._problem(f"its {ADAPTER_WEIGHTS} holds no LoRA weights (*{_A})")

    def check_shapes(self, model: Path) -> None:
        """Compare its weights with those of the model that have the same names. Raises: SettingsError where they do not fit."""
        modules = {name.removesuffix(_A).removeprefix(_PREFIX): name for name in self._tensors if name.endswith(_A)}
        weights = _float_matrices(sorted(model.glob("*.safetensors")), {f"{module}.weight" for module in modules})
        wrong = []
        for module, name in modules.items():
            weight = weights.get(f"{module}.weight")
            pair = self._tensors[name], self._tensors.get(name.removesuffix(_A) + _B)
            if weight and (misfit := _misfit(weight, *pair, self._config.ranks)):
                wrong.append(f"{module}: {misfit}")
        if wrong:
            raise self._problem(f"it does not fit the model: {_some(wrong)}. Give the model that it was trained on as MODEL_ID")

    def load_into(self, engine: "LLMEngine") -> "LoRARequest":
        """Load it, all of it. What each request is to carry. Raises: SettingsError, or EngineError where the engine died."""
        from vllm.lora.request import LoRARequest
        from vllm.v1.engine.exceptions import EngineDeadError

        request = LoRARequest(self._name, _ID, str(self._folder))
        try:
            engine.add_lora(request)
            left_out = _left_out(engine)
        except EngineDeadError as error:
            raise EngineError(f"vLLM died while it loaded {self._name}: {error}") from error
        except Exception as error:
            raise self._problem(f"vLLM cannot load it: {' '.join(str(error).split())[:600]}") from error
        if left_out:
            raise self._problem(
                f"the model has no place for some of it: {_some(left_out)}. Give the model that it was trained on as MODEL_ID"
            )
        return request

    @property
    def _name(self) -> str:
        return self._files.source.name

    @cached_property
    def _config(self) -> _Config:
        try:
            return _read_config((self._files.small_files() / CONFIGS["adapter"]).read_bytes())
        except (OSError, ValueError) as error:
            raise self._problem(str(error)) from error

    @cached_property
    def _folder(self) -> Path:
        return self._files.all_files().resolve()

    @cached_property
    def _tensors(self) -> Mapping[str, Sequence[int]]:
        """The shapes of its weights by their names."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._folder / ADAPTER_WEIGHTS, framework="numpy") as tensors:
                return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118 (no mapping)
        except (OSError, SafetensorError) as error:
            raise self._problem(f"its {ADAPTER_WEIGHTS} is damaged: {error}. Fetch it again") from error

    def _problem(self, message: str) -> SettingsError:
        return SettingsError([Problem("LORA_ID", self._name, message)])


class AdapterWorker:
    """Added by vLLM to each of its workers, where the model is."""

    model_runner: Any

    def adapter_modules_left_out(self) -> list[str]:
        """Modules that the adapter has weights for and this worker's part of the model does not have."""
        manager = self.model_runner.lora_manager._adapter_manager  # noqa: SLF001 (there is no other way to know)
        modules = manager.list_adapters()[_ID].loras
        # Stacked experts come in two parts, and the model has one module for both.
        return sorted(name for name in modules if name.removesuffix(".base_layer") not in manager.modules)


def _read_config(content: bytes) -> _Config:
    """What adapter_config.json says. Raises: ValueError with the remedy where vLLM could do nothing with it."""
    name = CONFIGS["adapter"]
    try:
        facts = json.loads(content)
    except ValueError as error:
        raise ValueError(f"its {name} is no JSON: {error}. Give the folder that PEFT's save_pretrained wrote") from error
    if refused := _refused(facts):  # first: what is no LoRA has other keys
        raise ValueError(f"vLLM does not support {', '.join(refused)}: {_REMEDY}")
    try:
        config = _Config.model_validate(facts)
    except ValidationError as error:
        wrong = "; ".join(": ".join([*map(str, detail["loc"]), detail["msg"]]) for detail in error.errors())
        raise ValueError(f"its {name} is wrong: {wrong}") from error
    if max(config.ranks) > RANKS[-1]:
        raise ValueError(f"its rank is {max(config.ranks)}, and vLLM takes {RANKS[-1]} at most: {_REMEDY}")
    return config


def _refused(facts: object) -> Sequence[str]:
    """What of it is used that vLLM cannot do; nothing, where it is no object at all."""
    if not isinstance(facts, dict):
        return []
    used = ((key, what) for key, (is_used, what) in _REFUSED.items() if key in facts and is_used(facts[key]))
    return [f"{what} ({key}={facts[key]!r})" for key, what in used]


def _left_out(engine: "LLMEngine") -> Sequence[str]:
    """Modules that no worker has. One part of a model that is spread over workers lacks what another has."""
    config = engine.vllm_config
    if config.parallel_config.worker_extension_cls not in (WORKER, determinism.WORKER) or (
        config.lora_config and config.lora_config.target_modules
    ):
        return ()  # ENGINE_ARGS wants it so
    missing: list[list[str]] = engine.collective_rpc("adapter_modules_left_out")
    return sorted(set(missing[0]).intersection(*missing[1:]))


def _float_matrices(files: Iterable[Path], wanted: set[str]) -> Mapping[str, Sequence[int]]:
    """Shapes of those weights that are stored as they are; packed ones of a quantised model tell nothing."""
    from safetensors import SafetensorError, safe_open

    shapes = {}
    for file in files:
        # What is damaged here is told by vLLM, adapter or not.
        with suppress(OSError, SafetensorError), safe_open(file, framework="numpy") as tensors:
            for name in wanted.intersection(tensors.keys()):
                weight = tensors.get_slice(name)
                if weight.get_dtype().startswith(("F", "BF")) and len(weight.get_shape()) == 2:
                    shapes[name] = weight.get_shape()
    return shapes


def _misfit(weight: Sequence[int], lora_a: Sequence[int], lora_b: Sequence[int] | None, ranks: set[int]) -> str | None:
    """Why B @ A cannot be added to the weight; None where it can."""
    if lora_b is None:
        return "lora_A is there without its lora_B"
    if len(lora_a) != 2 or len(lora_b) != 2:
        return f"its weights are no matrices: {list(lora_a)}, {list(lora_b)}"
    if lora_a[0] not in ranks or lora_a[0] != lora_b[1]:
        return f"lora_A has rank {lora_a[0]} and lora_B {lora_b[1]}, where {CONFIGS['adapter']} says {sorted(ranks)}"
    if [lora_b[0], lora_a[1]] not in (list(weight), list(reversed(weight))):  # some models store the transposed weight
        return f"it is for a weight of {lora_b[0]} x {lora_a[1]}, the model's is {weight[0]} x {weight[1]}"
    return None


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
