"""run.json -> what the report needs of it. Pure. The file may come from where others write too: nothing in it is trusted."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, ValidationError

from job.errors import OutputError
from job.layout import config_of

_OF_THE_MODEL = ("model.", "adapter.")
_NAMING_SETTINGS = 2  # a name with more of them is no name any more
_NAMING_CHARACTERS = 24


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Identity(_Strict):
    digest: str
    facts: dict[str, Any]


class Named(_Strict):
    """A model, adapter or dataset at a commit."""

    name: str
    commit: str


class _File(_Strict):
    path: str
    rows: NonNegativeInt
    sha256: str


class _Counts(_Strict):
    rows: NonNegativeInt
    failed_rows: NonNegativeInt
    finish_reasons: dict[str, NonNegativeInt]
    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt
    runaway_tokens: NonNegativeInt
    lengths: dict[int, NonNegativeInt]


class Manifest(_Strict):
    """What the report reads of run.json."""

    identity: _Identity
    model: Named
    adapter: Named | None
    dataset: Named
    counts: _Counts
    generated_rows: NonNegativeInt
    files: list[_File]
    seconds: dict[str, NonNegativeFloat]
    budget: Any = None  # see job.budget; runs of before have none
    engine: dict[str, Any]
    versions: dict[str, Any]

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.identity.facts

    @property
    def name(self) -> str:
        """The model's, with its adapter's."""
        parts = (part.name.rsplit("/", 1)[-1] for part in (self.model, self.adapter) if part)
        return " + ".join(parts)

    @property
    def split(self) -> tuple[str, str]:
        """Configuration and split."""
        config = self.facts.get("dataset_config")
        return config_of(config if isinstance(config, str) else None), str(self.facts.get("dataset_split", ""))

    @property
    def settings(self) -> Mapping[str, object]:
        """What changes an answer, by dotted names, without what the model is."""
        return {name: value for name, value in _flat("", self.facts) if not name.startswith(_OF_THE_MODEL)}

    @property
    def files_digest(self) -> tuple[str, ...]:
        return tuple(file.sha256 for file in self.files)


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: where it was named, what its run.json says, and what it is called in the report."""

    reference: str
    manifest: Manifest
    label: str = ""


def parsed(where: str, values: object) -> Manifest:
    """Raises: OutputError where this is no manifest, or names files outside of its folder."""
    try:
        manifest = Manifest.model_validate(values)
    except (ValidationError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "nested too deeply"}
        what = f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
        raise OutputError(
            f"{where}: is not a run.json of this job ({what}). Run the same job again, which writes it anew, or take another "
            f"copy of the results."
        ) from error
    for file in manifest.files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or path.suffix != ".parquet":
            raise OutputError(
                f"{where}: names {file.path!r} as a data file, which no job does. Take another copy of the results."
            )
    return manifest


def labelled(runs: Sequence[Run]) -> list[Run]:
    """The same runs with names that tell them apart: the model's, and where several share it, the settings they differ in."""
    shared = Counter(run.manifest.name for run in runs)
    labels = [run.manifest.name if shared[run.manifest.name] == 1 else _told_apart(run, runs) for run in runs]
    if len(shared) == 1 and len(set(labels)) > 1:  # the model's name tells nothing then, and takes room in each row
        labels = [label.removeprefix(f"{run.manifest.name}, ") for label, run in zip(labels, runs, strict=True)]
    taken = Counter(labels)
    numbers: Counter[str] = Counter()
    for place, label in enumerate(labels):
        if taken[label] > 1:
            numbers[label] += 1
            labels[place] = f"{label} #{numbers[label]}"
    return [Run(run.reference, run.manifest, label) for run, label in zip(runs, labels, strict=True)]


def shown(value: object, characters: int) -> str:
    """A setting's value, for people, with at most so many characters of it."""
    text = "not set" if value is None or value == [] else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= characters else f"{text[:characters]}…"


def _told_apart(run: Run, runs: Sequence[Run]) -> str:
    """A name with the first settings in which it differs from the others of its model."""
    settings = run.manifest.settings
    others = [other.manifest.settings for other in runs if other.manifest.name == run.manifest.name]
    differing = [name for name in settings if any(other.get(name) != settings[name] for other in others)]
    told = (f"{name.rsplit('.', 1)[-1]} {shown(settings[name], _NAMING_CHARACTERS)}" for name in differing[:_NAMING_SETTINGS])
    return ", ".join([run.manifest.name, *told])


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(f"{prefix}{name}.", inner)
    else:
        yield prefix.rstrip("."), value
