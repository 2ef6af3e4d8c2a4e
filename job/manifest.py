"""run.json: everything that is known about a run, for people and for the card. Pure but for the versions that are installed."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from job import __version__
from job.identity import Identity
from job.records import DataFile, Source, Tally
from job.references import base_name

PACKAGES = ("datasets", "huggingface_hub", "pyarrow", "transformers", "tokenizers")


def build(
    *,
    identity: Identity,
    model: Source,
    dataset: Source,
    tally: Tally,
    files: Sequence[DataFile],
    seconds: Mapping[str, float],
    engine: Mapping[str, object],
) -> dict[str, Any]:
    """The manifest of a finished run.

    engine: what the engine said of itself when it last started, empty where no row needed one; seconds: by phase, of the
    process that finished the run.
    """
    return {
        "identity": {"digest": identity.digest, "facts": identity.facts},
        "model": _described(model),
        "dataset": _described(dataset),
        "counts": asdict(tally),
        "files": [asdict(file) for file in files],
        "seconds": dict(seconds),
        "seeds": "a row's seed is the first 63 bits of SHA-256 of 'SEED:position:sample'",
        "engine": dict(engine),
        "versions": {"job": __version__, "python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


def _described(source: Source) -> dict[str, object]:
    """A source as others may see it: of local files the name, not the path on this machine."""
    name = base_name(source.name) if source.local else source.name
    return {"name": name, "commit": source.commit, "local": source.local}
