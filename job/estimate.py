"""How much work a run would be: counted for the prompts, bounded for the answers, and timed by earlier runs of the model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from job.files import read_json
from job.layout import MANIFEST
from job.lengths import Lengths
from job.settings import Settings


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would do.

    rows: to be answered; failed_rows: that can never be; prompt: of the first row, as text; most_completion_tokens: if every
    answer were as long as it may be; likely_completion_tokens, likely_generation_seconds: as long and as fast as in the last
    run of this model with the same engine, prompt and MAX_TOKENS, None where there was none.
    """

    rows: int
    failed_rows: int
    prompt: str | None
    prompt_tokens: int
    most_completion_tokens: int
    likely_completion_tokens: int | None = None
    likely_generation_seconds: float | None = None


NOTHING_TO_DO = Estimate(0, 0, None, 0, 0)


def estimate(settings: Settings, facts: Mapping[str, Any], lengths: Lengths, earlier_runs: Path) -> Estimate:
    """facts: of the run's identity; earlier_runs: the folder with the folders of the model's runs."""
    samples = settings.sampling.num_samples
    most = lengths.room(settings.sampling.max_tokens) * samples
    answers = lengths.rows * samples
    tokens = seconds = None
    if speed := _last_speed(earlier_runs, facts):
        tokens_per_answer, tokens_per_second = speed
        tokens = min(round(answers * tokens_per_answer), most)
        seconds = round(tokens / tokens_per_second, 1)
    return Estimate(lengths.rows, lengths.failed_rows, lengths.first, lengths.total, most, tokens, seconds)


def _last_speed(folder: Path, ours: Mapping[str, Any]) -> tuple[float, float] | None:
    """Tokens an answer and tokens a second of the newest run that is alike. A resumed one has the time of a part only."""
    for path in sorted(_manifests(folder), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            facts = read_json(path)
            counts, seconds = facts["counts"], facts["seconds"]["generation"]
            answers, tokens = sum(counts["finish_reasons"].values()), counts["completion_tokens"]
            if (
                _alike(facts["identity"]["facts"], ours)
                and facts["generated_rows"] == counts["rows"]
                and answers
                and tokens
                and seconds
            ):
                return tokens / answers, tokens / seconds
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return None


def _alike(earlier: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether its answers came as fast and were as long as ours may be, as far as settings can tell."""
    same = all(earlier[name] == ours[name] for name in ("engine", "prompt"))
    return bool(same and earlier["sampling"]["max_tokens"] >= ours["sampling"]["max_tokens"])


def _manifests(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob(f"*/{MANIFEST}") if not path.parent.is_symlink())
