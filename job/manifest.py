"""run.json: everything that is known about a run, for people and for the card. Pure but for the versions that are installed."""

import json
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from importlib.metadata import version
from typing import Any

from job import __version__, canary
from job.budget import Budget, of_manifest
from job.disk import json_text
from job.errors import Problem, SettingsError
from job.files import parsed_json
from job.identity import Identity
from job.layout import config_of
from job.lengths import of_answers
from job.records import DataFile, Source, Tally
from job.references import base_name

_COUNTS = {field.name for field in fields(Tally)}
_COUNTED_BY = ("finish_reasons", "lengths")
_LATER = "runaway_lengths"  # is not in the manifests of before
_FILE_NUMBERS = ("rows", "bytes", "memory_bytes")
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
    max_rows: int | None = None,
    budget: Budget | None = None,
) -> dict[str, Any]:
    """The manifest of a finished run.

    engine: what the engine said of itself when it last started, empty where no row needed one; generated_rows, seconds (by
    phase), image (None outside of one): of the process that finished the run; max_rows: how many were asked for, None: all;
    budget: what all of its processes spent, None where none of them noted it.
    """
    counts = parsed_json(json_text(asdict(tally)))  # the names in an object of JSON are texts
    return _what(identity, model, adapter, dataset) | {
        "max_rows": max_rows,
        "counts": counts,
        "answers": asdict(of_answers(counts)),
        "generated_rows": generated_rows,
        "files": [asdict(file) for file in files],
        "seconds": dict(seconds),
        "budget": budget.model_dump() if budget else None,
        "seeds": "a row's seed is the first 63 bits of SHA-256 of 'SEED:position:sample'",
        "engine": dict(engine),
        "image": dict(image) if image else None,
        "versions": {"job": __version__, "python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


def joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The manifest of a whole run, from those of its shards in their order: what can be counted is added up.

    The engine and the versions are those of the first shard that needed an engine, and the canary's record that of the shard
    where most answers changed.

    Raises: SettingsError where bytes are promised and shards were answered on different hardware.
    """
    _check_same_hardware(parts)
    first = next((part for part in parts if part["engine"]), parts[0])
    phases = dict.fromkeys(phase for part in parts for phase in part["seconds"])
    counts = _added([part["counts"] for part in parts])
    budget = Budget.joined([of_manifest(part) for part in parts], counts["completion_tokens"])
    return dict(first) | {
        "counts": counts,
        "answers": asdict(of_answers(counts)),
        "generated_rows": sum(part["generated_rows"] for part in parts),
        "files": [file for part in parts for file in part["files"]],
        "seconds": {phase: round(sum(part["seconds"].get(phase, 0) for part in parts), 3) for phase in phases},
        "budget": budget.model_dump() if budget else None,
        "engine": {**first["engine"], **canary.worst([part["engine"] for part in parts])},
        "shards": len(parts),
    }


def _check_same_hardware(parts: Sequence[Mapping[str, Any]]) -> None:
    engines = [part["engine"] for part in parts]
    found = {", ".join(str(engine.get(name)) for name in ("device", "torch", "dtype")) for engine in engines if engine}
    kinds = "; ".join(sorted(found)) if len(found) > 1 else _other_answers(engines)
    if kinds and parts[0]["identity"]["facts"]["reproducibility"] == "bitwise":
        message = (
            f"the shards were answered on different hardware, which answers otherwise: {kinds}. Remove the shards of one kind "
            f"and answer them on the other, or take REPRODUCIBILITY=seeded"
        )
        raise SettingsError([Problem("REPRODUCIBILITY", "bitwise", message)])


def _other_answers(engines: Sequence[Mapping[str, Any]]) -> str:
    shards = canary.conflict(engines)
    return "shards {} and {} gave different answers to the canary's prompts".format(*shards) if shards else ""


def _added(counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    total = {name: sum(each[name] for each in counts) for name in counts[0] if name not in (*_COUNTED_BY, _LATER)}
    reasons = _merged([each["finish_reasons"] for each in counts], str)
    lengths = _merged([each["lengths"] for each in counts], int)
    runaways = {reason for each in counts for reason in each.get(_LATER, {})}
    runaway_lengths = {
        reason: _merged([each.get(_LATER, {}).get(reason, {}) for each in counts], int) for reason in sorted(runaways)
    }
    return dict(counts[0]) | total | {"finish_reasons": reasons, "lengths": lengths, _LATER: runaway_lengths}


def _merged(counts: Sequence[Mapping[str, int]], order: Callable[[str], Any]) -> dict[str, int]:
    """One count of what each of them counts, in the order of what the names are."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return {name: total[name] for name in sorted(total, key=order)}


def is_same_release(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two manifests are those of the same answers in the same files: by another process, at another time.

    one: as it was read.
    """
    names = ("identity", "model", "adapter", "dataset", "counts", "files")
    mine, theirs = (json.loads(json.dumps([each.get(name) for name in names])) for each in (one, other))
    return bool(mine == theirs) and _is_sound(one)


def is_of(manifest: Mapping[str, Any], identity: Identity, model: Source, adapter: Source | None, dataset: Source) -> bool:
    """Whether a manifest, as it was read, is that of a run of these."""
    ours = json.loads(json.dumps(_what(identity, model, adapter, dataset)))
    return all(manifest.get(name) == value for name, value in ours.items()) and _is_sound(manifest)


def _is_sound(manifest: Mapping[str, Any]) -> bool:
    """Whether what is added up and written again is as `build` makes it: it may come from where others write too."""
    try:
        counts, files, seconds = manifest["counts"], manifest["files"], manifest["seconds"]
        whole = [manifest["generated_rows"], *(file[name] for file in files for name in _FILE_NUMBERS)]
        whole += [value for name, value in counts.items() if name not in (*_COUNTED_BY, _LATER)]
        lengths = [counts["lengths"], *counts.get(_LATER, {}).values()]
        whole += [number for each in (counts["finish_reasons"], *lengths) for number in each.values()]
        counted = all(tokens == str(int(tokens)) for each in lengths for tokens in each)
        json_text(manifest).encode()
        typed = all(type(number) is int for number in whole) and all(type(each) in (int, float) for each in seconds.values())
        known = isinstance(manifest["engine"], dict) and isinstance(manifest["versions"]["job"], str)
        return typed and counted and known and counts.keys() | {_LATER} == _COUNTS
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


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
        manifest = parsed_json(text)
        facts, digest = manifest["identity"]["facts"], manifest["identity"]["digest"]
    except (ValueError, KeyError, TypeError):
        return False
    if not isinstance(facts, dict) or not isinstance(digest, str):
        return False
    return (config_of(facts.get("dataset_config")), facts.get("dataset_split")) == (config, split)


def _described(source: Source) -> dict[str, object]:
    """A source as others may see it: of local files the name, not the path on this machine."""
    name = base_name(source.name) if source.local else source.name
    return {"name": name, "commit": source.commit, "local": source.local}
