"""Which settings of the runs differ, and whether their answers can be compared like for like. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from job.report.runs import Run, shown

# What makes a comparison one of other things than models: by the first part of a setting's name.
_UNLIKE = {
    "dataset": "the dataset's commit: rows are matched by their position, and may be other rows",
    "dataset_config": "the dataset's configuration",
    "instruction_column": "the column with the instructions",
    "prompt": "the prompt",
    "sampling": "sampling",
    "max_model_len": "the longest prompt and answer together",
}
_SHOWN_CHARACTERS, _SHOWN_OF_COMMITS = 200, 19  # of a digest with its name, a dozen digits tell it apart


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that is not the same in all runs: its value in each, in their order, and whether it makes them unlike."""

    name: str
    values: Sequence[str]
    unlike: bool


@dataclass(frozen=True, slots=True)
class Mismatches:
    """Rows, counted while they are read: of which not all runs have the row, or the same instruction, or the same prompt."""

    absent: int = 0
    instructions: int = 0
    prompts: int = 0


def differences(runs: Sequence[Run]) -> list[Difference]:
    """The settings that differ, those first that make the runs unlike."""
    settings = [run.manifest.settings for run in runs]
    names = dict.fromkeys(name for each in settings for name in each)
    found = [
        Difference(name, [shown(each.get(name), _characters(name)) for each in settings], _topic(name) in _UNLIKE)
        for name in names
        if any(each.get(name) != settings[0].get(name) for each in settings)
    ]
    return sorted(found, key=lambda difference: not difference.unlike)


def warnings(runs: Sequence[Run], found: Sequence[Difference], mismatches: Mismatches) -> list[str]:
    """Why the comparison is not like for like, a sentence each; nothing where it is."""
    topics = dict.fromkeys(_topic(difference.name) for difference in found if difference.unlike)
    told = [_sentence(topic, found) for topic in topics]
    return [*told, *_of_rows(runs, mismatches, "prompt" in topics)]


def _sentence(topic: str, found: Sequence[Difference]) -> str:
    names = [each.name.removeprefix("sampling.") for each in found if _topic(each.name) == topic]
    return f"They differ in {_UNLIKE[topic]}" + (f" ({', '.join(names)})." if topic == "sampling" else ".")


def _of_rows(runs: Sequence[Run], mismatches: Mismatches, prompts_told: bool) -> Iterator[str]:
    if mismatches.absent:
        counts = ", ".join(f"{run.label} {run.manifest.counts.rows}" for run in runs)
        yield f"Not all of them have the same rows: {counts}."
    if mismatches.instructions:
        yield (
            f"{mismatches.instructions} rows have another instruction in one run than in another: they are matched by "
            f"position only, and the first run's instruction is shown."
        )
    if mismatches.prompts and not prompts_told:
        yield (
            f"{mismatches.prompts} rows had another prompt text in one run than in another, as models have chat templates of "
            f"their own. Each row shows its prompts."
        )


def _topic(name: str) -> str:
    return name.partition(".")[0]


def _characters(name: str) -> int:
    return _SHOWN_OF_COMMITS if name.endswith(".commit") else _SHOWN_CHARACTERS
