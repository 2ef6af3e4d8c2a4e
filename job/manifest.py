"""run.json: everything that is known about a run, for people and for the card. Pure but for the versions that are installed."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from job import __version__
from job.identity import Identity
from job.records import DataFile, Source, Tally

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
        "model": asdict(model),
        "dataset": asdict(dataset),
        "counts": asdict(tally),
        "files": [asdict(file) for file in files],
        "seconds": dict(seconds),
        "seeds": "a row's seed is the first 63 bits of SHA-256 of 'SEED:position:sample'",
        "engine": dict(engine),
        "versions": {"job": __version__, "python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }
