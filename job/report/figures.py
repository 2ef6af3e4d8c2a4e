"""What one run came to, in the words and shapes of the summary. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from job.budget import Budget, of_manifest
from job.lengths import AnswerLengths, of_answers
from job.report.runs import Manifest, Run
from job.timing import tokens_per_second, whole_phases

BINS = 24


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a histogram: answers of `low` to `high` tokens, and its height as a share of the plot's."""

    low: int
    high: int
    answers: int
    height: float


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of the run: seconds, and its share of all phases."""

    name: str
    seconds: float
    share: float


@dataclass(frozen=True, slots=True)
class Figures:
    """One run's column of the summary. tokens_per_second: None where other processes answered a part of the rows; budget: None
    where a run has none."""

    run: Run
    answers: AnswerLengths
    tokens_per_second: float | None
    phases: Sequence[Phase]
    bars: Sequence[Bar]
    budget: Budget | None

    @property
    def manifest(self) -> Manifest:
        return self.run.manifest

    @property
    def seconds(self) -> float:
        return sum(phase.seconds for phase in self.phases)


def figures(runs: Sequence[Run]) -> list[Figures]:
    """Of each run; histograms have the same bins, so that they can be compared, and each its own height."""
    lengths = [run.manifest.counts.lengths for run in runs]
    edges = _edges(max((max(each, default=0) for each in lengths), default=0))
    return [_of(run, edges) for run in runs]


def _of(run: Run, edges: Sequence[int]) -> Figures:
    manifest = run.manifest
    counts = manifest.counts.model_dump()
    speed = tokens_per_second(manifest.seconds, manifest.generated_rows, counts)
    bars = _bars(manifest.counts.lengths, edges)
    return Figures(run, of_answers(counts), speed, _phases(manifest.seconds), bars, of_manifest({"budget": manifest.budget}))


def _phases(seconds: Mapping[str, float]) -> list[Phase]:
    whole = whole_phases(seconds)
    total = sum(whole.values())
    return [Phase(name, value, value / total if total else 0.0) for name, value in whole.items()]


def _edges(longest: int) -> list[int]:
    """Where bins begin, and the end of the last: of equal width in tokens, at most BINS of them."""
    width = max(1, -(-(longest + 1) // BINS))
    return list(range(0, longest + width + 1, width))


def _bars(lengths: Mapping[int, int], edges: Sequence[int]) -> list[Bar]:
    width = edges[1] - edges[0]
    counts = [0] * (len(edges) - 1)
    for tokens, answers in lengths.items():
        counts[min(max(tokens, 0) // width, len(counts) - 1)] += answers
    highest = max(counts, default=0) or 1
    return [Bar(low, high - 1, count, count / highest) for (low, high), count in zip(pairwise(edges), counts, strict=True)]
