"""Identity: exactly what changes an answer. Runs of one identity share a folder, and every row's seed follows from it.

Not part of it: batch sizes, memory, folders, shards, retries, how many rows are asked for.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from job.records import Source
from job.settings import Settings

Facts = Mapping[str, object]


@dataclass(frozen=True)
class Identity:
    """The facts, as plain JSON values by name, and their digest."""

    facts: Facts

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the facts, in hex."""
        canonical = json.dumps(self.facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def short(self) -> str:
        """The 12 hex digits that name the run's folder."""
        return self.digest[:12]

    def as_json(self) -> str:
        return json.dumps({"digest": self.digest, "facts": self.facts}, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def describe(
    settings: Settings, model: Source, dataset: Source, template: Facts, engine: Facts, adapter: Source | None = None
) -> Identity:
    """The identity of a run.

    model, dataset, adapter: as resolved; a local one counts by its content, wherever it lies.
    template: the prompt template with the text that the model's commit does not pin; engine: its name and version.
    """
    sampling, engine_settings = settings.sampling.model_dump(mode="json"), settings.engine
    # These came when there were runs already. They are named only where they are set, so that those keep their identities.
    later: dict[str, object] = {}
    if engine_settings.kv_cache_dtype != "auto":
        later["kv_cache_dtype"] = engine_settings.kv_cache_dtype
    if engine_settings.compile_model is not None:
        later["compile_model"] = engine_settings.compile_model
    if not sampling["repetition_detection"]:
        del sampling["repetition_detection"]
    return Identity(
        {
            "model": _source_facts(model),
            "adapter": _source_facts(adapter) if adapter else None,
            "trust_remote_code": settings.model.trust_remote_code,
            "dataset": _source_facts(dataset),
            "dataset_config": settings.data.dataset_config,
            "dataset_split": settings.data.dataset_split,
            "instruction_column": settings.data.instruction_column,
            "drop_columns": sorted(settings.data.drop_columns),
            "prompt": template,
            "sampling": sampling,
            "engine": engine,
            "max_model_len": settings.engine.max_model_len,
            "dtype": settings.engine.dtype,
            "quantization": settings.engine.quantization,
            "reproducibility": settings.engine.reproducibility,
            # Both change roundings, on a GPU.
            "enforce_eager": settings.engine.enforce_eager,
            "tensor_parallel_size": settings.engine.tensor_parallel_size,
            "engine_args": settings.engine.engine_args,
            **later,
        }
    )


def _source_facts(source: Source) -> Facts:
    return {"commit": source.commit} if source.local else {"id": source.name, "commit": source.commit}


def row_seed(seed: int, position: int, sample: int) -> int:
    """The seed of one sample of one row: 63 bits of a hash, so that neighbours share nothing."""
    digest = hashlib.sha256(f"{seed}:{position}:{sample}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
