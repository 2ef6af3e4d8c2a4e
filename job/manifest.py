"""run.json: everything that is known about a run, for people and for the card. Pure but for the versions that are installed."""

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from job import __version__
from job.files import parsed_json
from job.identity import Identity
from job.layout import config_of
from job.records import DataFile, Source, Tally
from job.references import base_name

PACKAGES = ("datasets", "huggingface_hub", "pyarrow", "transformers", "tokenizers")


def build(
    *,
    identity: Identity,
    model: Source,
    adapter: Source | None,
    dataset: Source,
    tally: Tally,
    generated_rows: int,
    files: Sequence[DataFile],
    seconds: Mapping[str, float],
    engine: Mapping[str, object],
    image: Mapping[str, str] | None,
) -> dict[str, Any]:
    """The manifest of a finished run.

    engine: what the engine said of itself when it last started, empty where no row needed one; generated_rows, seconds (by
    phase), image (None outside of one): of the process that finished the run.
    """
    return _what(identity, model, adapter, dataset) | {
        "counts": asdict(tally),
        "generated_rows": generated_rows,
        "files": [asdict(file) for file in files],
        "seconds": dict(seconds),
        "seeds": "a row's seed is the first 63 bits of SHA-256 of 'SEED:position:sample'",
        "engine": dict(engine),
        "image": dict(image) if image else None,
        "versions": {"job": __version__, "python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


def joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The manifest of a whole run, from those of its shards in their order: what can be counted is added up.

    The engine and the versions are those of the first shard that needed an engine.
    """
    first = next((part for part in parts if part["engine"]), parts[0])
    phases = dict.fromkeys(phase for part in parts for phase in part["seconds"])
    return dict(first) | {
        "counts": _added([part["counts"] for part in parts]),
        "generated_rows": sum(part["generated_rows"] for part in parts),
        "files": [file for part in parts for file in part["files"]],
        "seconds": {phase: round(sum(part["seconds"].get(phase, 0) for part in parts), 3) for phase in phases},
        "shards": len(parts),
    }


def _added(counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    reasons: Counter[str] = Counter()
    for each in counts:
        reasons.update(each["finish_reasons"])
    total = {name: sum(each[name] for each in counts) for name in counts[0] if name != "finish_reasons"}
    return dict(counts[0]) | total | {"finish_reasons": dict(sorted(reasons.items()))}


def is_same_release(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two manifests are those of the same answers in the same files: by another process, at another time."""
    names = ("identity", "model", "adapter", "dataset", "counts", "files")
    mine, theirs = (json.loads(json.dumps([each.get(name) for name in names])) for each in (one, other))
    return bool(mine == theirs)


def is_of(manifest: Mapping[str, Any], identity: Identity, model: Source, adapter: Source | None, dataset: Source) -> bool:
    """Whether a manifest, as it was read, is that of a run of these."""
    ours = json.loads(json.dumps(_what(identity, model, adapter, dataset)))
    return all(manifest.get(name) == value for name, value in ours.items())


def _what(identity: Identity, model: Source, adapter: Source | None, dataset: Source) -> dict[str, Any]:
    return {
        "identity": {"digest": identity.digest, "facts": identity.facts},
        "model": _described(model),
        "adapter": _described(adapter) if adapter else None,
        "dataset": _described(dataset),
    }


def describes(text: str, config: str, split: str) -> bool:
    """Whether a published manifest is that of this split of this configuration."""
    try:
        facts = parsed_json(text)["identity"]["facts"]
    except (ValueError, KeyError, TypeError):
        return False
    return (config_of(facts.get("dataset_config")), facts.get("dataset_split")) == (config, split)


def _described(source: Source) -> dict[str, object]:
    """A source as others may see it: of local files the name, not the path on this machine."""
    name = base_name(source.name) if source.local else source.name
    return {"name": name, "commit": source.commit, "local": source.local}
