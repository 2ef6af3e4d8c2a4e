"""Everything that can be set, as environment variables: one frozen model for each audience.

`Settings.from_env(mapping)` does no I/O and reports all problems together. An empty variable counts as unset.
The descriptions below are the documentation: docs/configuration.md and .env.example are generated from them.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from job import engine_args, values
from job.errors import Problem, SettingsError
from job.shards import Shard

# Read by the loop over models, so never a near-miss of a name of ours.
OTHER_KNOWN_NAMES = ("MODEL_IDS",)
UNSAFE_SWITCHES = ("VLLM_ALLOW_INSECURE_SERIALIZATION", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
# vLLM 0.32's; which of them work depends on the device and on the model. A test holds them against the vLLM that is installed.
KvCacheDtype = Literal[
    "auto",
    "float16",
    "bfloat16",
    "fp8",
    "fp8_e4m3",
    "fp8_e5m2",
    "fp8_inc",
    "fp8_ds_mla",
    "nvfp4_ds_mla",
    "turboquant_k8v4",
    "turboquant_4bit_nc",
    "turboquant_k3v4_nc",
    "turboquant_3bit_nc",
    "ultraquant_4bit",
    "int4_per_token_head",
    "int8_per_token_head",
    "fp8_per_token_head",
    "nvfp4",
    "nvfp4_4over6",
]
_PATHS = frozenset({"MODEL_ID", "LORA_ID", "DATASET_ID", "PROMPT_TEMPLATE", "OUTPUT_DIR"})


class _Audience(BaseSettings):
    """Settings of one audience, read from the mapping that is passed in as `environ` and from nowhere else."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore", allow_inf_nan=False)
    title: ClassVar[str]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: Any,
        env_settings: Any,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        env_settings.env_vars = {
            name.lower(): value for name, value in init_settings.init_kwargs["environ"].items() if value and name.isupper()
        }
        return (env_settings,)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        return cls(environ=environ)


class ModelSettings(_Audience):
    title = "Model"

    model_id: str = Field(description="The model: a Hub id such as `mlabonne/TwinLlama-3.1-8B`, or a local folder.")
    model_revision: str = Field("main", description="Branch, tag or commit of a model on the Hub.")
    lora_id: str | None = Field(
        None, description="A LoRA adapter to put over the model: a Hub id, or a local folder with adapter_config.json."
    )
    lora_revision: str = Field("main", description="Branch, tag or commit of an adapter on the Hub.")
    trust_remote_code: bool = Field(
        default=False,
        description="Run Python code that comes with the model, or that ENGINE_ARGS names. Only for code that you have read.",
    )


class DataSettings(_Audience):
    title = "Dataset"

    dataset_id: str = Field(
        description="The instructions: a Hub id such as `mlabonne/llmtwin`, or a local .parquet, .jsonl, .json or .csv file, "
        "or a folder of them."
    )
    dataset_config: Annotated[str, AfterValidator(values.config_name)] | None = Field(
        None, description="Configuration (subset) of the dataset, where it has several."
    )
    dataset_revision: str = Field("main", description="Branch, tag or commit of a dataset on the Hub.")
    dataset_split: Annotated[str, AfterValidator(values.split_name)] = Field(
        "test", description="Split to answer. A single local file is taken to be this split."
    )
    instruction_column: str = Field("instruction", description="Text column with the instructions.")
    drop_columns: Annotated[tuple[str, ...], NoDecode, BeforeValidator(values.words)] = Field(
        (), description="Source columns to leave out of the results, separated by commas or spaces."
    )
    max_rows: int | None = Field(None, ge=1, description="Answer only the first rows of the split. Unset: all rows.")


class PromptSettings(_Audience):
    title = "Prompt"

    prompt_template: str = Field(
        "alpaca",
        description="`alpaca` (the Alpaca text around the instruction), `chat` (the model's own chat template), or the path of "
        "a Jinja file that sees the row's columns.",
    )
    system_prompt: str | None = Field(None, description="System message, with `PROMPT_TEMPLATE=chat` only.")


class SamplingSettings(_Audience):
    title = "Sampling"

    temperature: Annotated[float, AfterValidator(abs)] = Field(
        0.8, ge=0, le=2, description="0 is greedy: always the likeliest token."
    )
    top_p: float = Field(
        0.95, gt=0, le=1, description="Draw from the likeliest tokens that hold this share of the probability."
    )
    min_p: float = Field(0.05, ge=0, le=1, description="Leave out tokens less likely than this share of the likeliest one.")
    top_k: int | None = Field(None, ge=1, description="Draw from this many of the likeliest tokens. Unset: from all.")
    repetition_penalty: float = Field(1.0, gt=0, le=2, description="Above 1 makes tokens that occurred before less likely.")
    max_tokens: int = Field(4096, ge=1, description="Longest answer, in tokens.")
    repetition_detection: Annotated[dict[str, int], NoDecode, BeforeValidator(values.repetition)] = Field(
        {},
        description="End an answer that loops: as soon as its last tokens are one pattern, `min_count` times in a row. A JSON "
        'object such as `{"max_pattern_size": 20, "min_count": 10}`, sizes in tokens; `min_pattern_size` is 1 unless it says '
        "more. Unset: loops go on up to MAX_TOKENS.",
    )
    stop: Annotated[tuple[str, ...], NoDecode, BeforeValidator(values.stop_sequences)] = Field(
        (), description='Text that ends an answer: one string, or a JSON list of strings such as `["###", "\\n\\n"]`.'
    )
    seed: int = Field(
        0, ge=0, lt=2**63, description="Each row's own seed is a hash of this, its position and the sample's number."
    )
    num_samples: int = Field(1, ge=1, le=1000, description="Answers per row. Above 1 the answers of a row are a list.")


class EngineSettings(_Audience):
    title = "Engine"

    engine: Literal["vllm", "echo"] = Field(
        "vllm", description="`vllm`, or `echo`: repeats the prompt, needs no model, for trying out everything around it."
    )
    max_model_len: int = Field(
        4096, ge=2, description="Longest prompt and answer together, in tokens. A longer prompt becomes a `too_long` row."
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto",
        description="Number format of the computation; `auto` is the model's own. On a CPU, `float32` makes runs repeatable.",
    )
    quantization: str | None = Field(None, description="Quantisation method, where the model does not say it itself.")
    kv_cache_dtype: KvCacheDtype = Field(
        "auto",
        description="Number format of the KV cache; `auto` is the model's own. `fp8` has room for twice as many tokens in the "
        "same memory, and changes answers.",
    )
    reproducibility: Literal["seeded", "bitwise"] = Field(
        "seeded",
        description="`seeded`: each row has its own seed; which rows are answered at the same time may still change a "
        "rounding, and so some answers. `bitwise`: it may not, on the same hardware; slower.",
    )
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs to spread the model over.")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="Share of the GPU's memory to use.")
    kv_cache_memory_bytes: int | None = Field(
        None, ge=1, description="Memory of the KV cache in bytes, instead of what GPU_MEMORY_UTILIZATION leaves."
    )
    enforce_eager: bool = Field(
        default=False,
        description="Use no CUDA graphs: starts some seconds sooner, runs slower. Always so on a CPU, whose compiled text is "
        "wrong.",
    )
    compile_model: bool | None = Field(
        None,
        description="Compile the model with torch.compile, or have vLLM's own kernels in CUDA graphs, which starts sooner. "
        "Unset: graphs alone on Hopper, where they were measured to be as fast, and compiled on other GPUs. Nothing on a CPU.",
    )
    engine_args: Annotated[dict[str, Any], NoDecode, BeforeValidator(values.json_object)] = Field(
        {},
        description='More arguments for the engine, as a JSON object such as `{"max_num_seqs": 64}`. `load_format` in it asks '
        "for weights in another form than safetensors.",
    )


class OutputSettings(_Audience):
    title = "Output"

    output_dir: Path = Field(Path("results"), description="Folder of all results; each run gets `<model>/<identity>` in it.")
    max_failed_rows: int = Field(
        0, ge=0, description="How many rows may stay without an answer before the run counts as failed."
    )
    gpu_price_per_hour: float | None = Field(
        None,
        gt=0,
        description="What one GPU costs for an hour, in any currency: run.json, the card, the report and the last line of the "
        "log then say what the run cost. Unset: they say GPU seconds alone. Nothing on a CPU.",
    )


class HubSettings(_Audience):
    title = "Hub"

    push_to_hub: bool | None = Field(
        None, description="Publish the results on the Hub. Unset: where HUB_NAMESPACE or HUB_REPO_ID says where to."
    )
    hub_namespace: Annotated[str, AfterValidator(values.hub_name)] | None = Field(
        None, description="User or organisation that gets the results, as `<namespace>/<model>-results`."
    )
    hub_repo_id: Annotated[str, AfterValidator(values.repo_id)] | None = Field(
        None, description="Repository for the results, instead of `<namespace>/<model>-results`: `namespace/name`."
    )
    hub_private: bool = Field(
        default=True, description="Keep the results private: a new repository is made so, and a public one is refused."
    )
    hub_deadline_seconds: float = Field(
        1800,
        gt=0,
        description="How long publication may take, with its retries, in seconds. Raise it for an upload that takes longer.",
    )
    hf_token: Annotated[SecretStr | None, BeforeValidator(values.access_token)] = Field(
        None, description="Access token of the Hugging Face Hub, for private and gated repositories."
    )
    # The Hub's own libraries read these two from the environment; they are here to be documented and checked.
    hf_endpoint: Annotated[str, AfterValidator(values.address)] | None = Field(
        None, description="Address of another Hub than huggingface.co."
    )
    hf_home: Path | None = Field(None, description="Folder for downloads and caches. Unset: `~/.cache/huggingface`.")

    @property
    def token(self) -> str | None:
        """The access token in the clear: for the Hub's libraries only."""
        return self.hf_token.get_secret_value() if self.hf_token else None

    @property
    def publishes(self) -> bool:
        """Whether the results go to the Hub."""
        return bool(self.hub_namespace or self.hub_repo_id) if self.push_to_hub is None else self.push_to_hub

    def results_repo(self, name: str) -> str | None:
        """The repository for the results of the model `name`, None where nothing says in whose namespace."""
        return self.hub_repo_id or (f"{self.hub_namespace}/{name}-results" if self.hub_namespace else None)


class ShardSettings(_Audience):
    title = "Shards"

    shard_count: int | None = Field(
        None, ge=1, le=100_000, description="How many processes share the rows of the split; each answers its part of them."
    )
    shard_index: int | None = Field(None, ge=0, description="Which of them this one is, from 0.")
    job_completion_index: int | None = Field(
        None, ge=0, description="The same, as Kubernetes sets it for the pods of an Indexed Job; SHARD_INDEX comes before it."
    )

    @property
    def shard(self) -> Shard:
        """The shard that this process is to answer: the only one, where nothing is set."""
        _, index = self.index
        return Shard(index or 0, self.shard_count or 1)

    @property
    def index(self) -> tuple[str, int | None]:
        """The variable that says which shard this is, and what it says."""
        if self.shard_index is None and self.job_completion_index is not None:
            return "JOB_COMPLETION_INDEX", self.job_completion_index
        return "SHARD_INDEX", self.shard_index


class RunSettings(_Audience):
    title = "Process"

    dry_run: bool = Field(
        default=False,
        description="Check everything, show a prompt and an estimate, and stop before the model is loaded.",
    )
    canary: bool = Field(
        default=True,
        description="Before the rows, have a few fixed prompts answered alone and then together, which takes seconds. Where an "
        "answer changes, REPRODUCIBILITY=bitwise stops the run, and `seeded` goes on and records how many did.",
    )
    shutdown_grace_seconds: float = Field(
        20, ge=0, description="After SIGTERM or SIGINT, how long rows that are being answered may still finish, in seconds."
    )
    progress_seconds: float = Field(
        10,
        ge=0,
        description="Time between two events that say how far the run is, in seconds; 0: one for each finished row, and one "
        "a second while there is none.",
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port for metrics in Prometheus' format (`/metrics`) and probes (`/healthz`, `/readyz`), on all interfaces "
        "and without a password; 0: any that is free, which the log names. Unset: none.",
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`json`: one object a line; `console`: for people; `auto`: console on a terminal, else json."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe events shown. DEBUG shows the engine's own messages too."
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a run, by audience."""

    model: ModelSettings
    data: DataSettings
    prompt: PromptSettings
    sampling: SamplingSettings
    engine: EngineSettings
    output: OutputSettings
    hub: HubSettings
    shards: ShardSettings
    run: RunSettings

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read and check every variable.

        Raises: SettingsError with all problems at once.
        """
        problems = [*_unreadable(environ), *_unsafe(environ)]
        if problems:
            raise SettingsError(problems)
        parts: dict[str, Any] = {}
        for name, audience in audiences().items():
            try:
                parts[name] = audience.from_env(environ)
            except ValidationError as error:
                problems += _problems(audience, environ, error)
        problems += _contradictions(parts)
        if problems:
            raise SettingsError(problems)
        return cls(**parts)

    def shown(self) -> dict[str, object]:
        """Every variable with its value, secrets masked, for the log."""
        values: dict[str, object] = {}
        for part in fields(self):
            values |= getattr(self, part.name).model_dump(mode="json", exclude_defaults=True)
        return values


def audiences() -> dict[str, type[_Audience]]:
    """The settings model of each audience, by its field's name in Settings."""
    return {part.name: part.type for part in fields(Settings) if isinstance(part.type, type)}


def variables() -> Iterator[tuple[type[_Audience], str]]:
    """Every variable's name, with the audience it belongs to."""
    for audience in audiences().values():
        for name in audience.model_fields:
            yield audience, name.upper()


def is_secret(field: FieldInfo) -> bool:
    """Whether the value of a variable must not be shown."""
    return "Secret" in str(field.annotation)


def near_misses(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that are set, mean nothing here, and look like one that does: {TEMPRATURE: TEMPERATURE}."""
    known = {name for _, name in variables()} | set(OTHER_KNOWN_NAMES)
    misses = {}
    for name in environ:
        if name not in known and (close := difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.75)):
            misses[name] = close[0]
    return misses


def _unreadable(environ: Mapping[str, str]) -> Iterator[Problem]:
    """Variables whose bytes are no text, or whose path begins in the home of a user that does not exist."""
    for _, name in variables():
        value = environ.get(name, "")
        try:
            value.encode()
            if name in _PATHS:
                Path(value).expanduser()
        except UnicodeEncodeError:
            yield Problem(name, None, "is not UTF-8")
        except RuntimeError as error:
            yield Problem(name, value, str(error))


def _unsafe(environ: Mapping[str, str]) -> Iterator[Problem]:
    """Switches of libraries that would have them run code which they find in data."""
    for name in UNSAFE_SWITCHES:
        if environ.get(name, "").strip().lower() not in ("", "0", "false", "no", "n", "off"):
            message = "lets whatever is read as pickle run code, and this job needs nothing of the kind: unset it"
            yield Problem(name, environ[name], message)


def _problems(audience: type[_Audience], environ: Mapping[str, str], error: ValidationError) -> Iterator[Problem]:
    for detail in error.errors(include_input=False, include_url=False):
        name = str(detail["loc"][0])
        field = audience.model_fields[name]
        variable = name.upper()
        if detail["type"] == "missing":
            yield Problem(variable, None, f"is required. {field.description}")
        else:
            secret = is_secret(field) or "token" in environ[variable].lower()
            value = None if secret else environ[variable]
            message = re.sub(r"^(Value error, |Input )", "", detail["msg"])
            yield Problem(variable, value, f"{message}. {field.description}")


def _contradictions(parts: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems between variables that are each right by themselves."""
    prompt: PromptSettings | None = parts.get("prompt")
    engine: EngineSettings | None = parts.get("engine")
    if prompt and prompt.system_prompt is not None and prompt.prompt_template != "chat":
        yield Problem("SYSTEM_PROMPT", prompt.system_prompt, "is used with PROMPT_TEMPLATE=chat only: set that, or unset this")
    hub: HubSettings | None = parts.get("hub")
    if hub and hub.push_to_hub and not (hub.hub_namespace or hub.hub_repo_id):
        yield Problem("PUSH_TO_HUB", "true", "needs to know where to: set HUB_NAMESPACE, or HUB_REPO_ID")
    yield from _shard_problems(parts.get("shards"))
    sampling: SamplingSettings | None = parts.get("sampling")
    if sampling and sampling.num_samples > 1 and sampling.temperature == 0:
        yield Problem(
            "NUM_SAMPLES", str(sampling.num_samples), "gives the same answer each time with TEMPERATURE=0: raise that"
        )
    yield from _repetition_problems(sampling)
    if engine and engine.enforce_eager and engine.compile_model:
        yield Problem("COMPILE_MODEL", "true", "does nothing with ENFORCE_EAGER=true: unset one of them")
    model: ModelSettings | None = parts.get("model")
    if engine and model:
        for name, why in engine_args.refused(engine.engine_args, trust_remote_code=model.trust_remote_code):
            given = None if name.replace("-", "_") == "hf_token" else json.dumps({name: engine.engine_args[name]})
            yield Problem("ENGINE_ARGS", given, why)


def _repetition_problems(sampling: SamplingSettings | None) -> Iterator[Problem]:
    if sampling is None or not sampling.repetition_detection:
        return
    found = sampling.repetition_detection
    least = found["min_pattern_size"] * found["min_count"]
    if least >= sampling.max_tokens:
        message = (
            f"finds a loop after {least} tokens at the earliest, and MAX_TOKENS={sampling.max_tokens} ends an answer first"
        )
        yield Problem(
            "REPETITION_DETECTION", json.dumps(found), f"{message}: lower min_count or min_pattern_size, or raise that"
        )


def _shard_problems(shards: ShardSettings | None) -> Iterator[Problem]:
    if shards is None:
        return
    (variable, index), count = shards.index, shards.shard_count
    if count is None and index is not None:
        yield Problem(variable, str(index), "needs SHARD_COUNT: how many shards there are")
    if count is not None and index is None:
        yield Problem("SHARD_COUNT", str(count), "needs SHARD_INDEX: which of the shards this one is, from 0")
    if count is not None and index is not None and index >= count:
        yield Problem(variable, str(index), f"is too large for SHARD_COUNT={count}: shards are counted from 0")
