"""How much work a run would be: counted for the prompts, bounded for the answers, and timed by earlier runs of the model."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from job.layout import MANIFEST
from job.lengths import Lengths
from job.settings import Settings


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would do.

    rows: to be answered; failed_rows: that can never be; prompt: of the first row, as text; most_completion_tokens: if every
    answer were as long as it may be; likely_completion_tokens, likely_generation_seconds: as long and as fast as in the last
    run of this model, None where there was none.
    """

    rows: int
    failed_rows: int
    prompt: str | None
    prompt_tokens: int
    most_completion_tokens: int
    likely_completion_tokens: int | None = None
    likely_generation_seconds: float | None = None


NOTHING_TO_DO = Estimate(0, 0, None, 0, 0)


def estimate(settings: Settings, lengths: Lengths, earlier_runs: Path) -> Estimate:
    """earlier_runs: the folder with the folders of the model's runs."""
    samples = settings.sampling.num_samples
    most = lengths.room(settings.sampling.max_tokens) * samples
    answers = lengths.rows * samples
    tokens = seconds = None
    if speed := _last_speed(earlier_runs):
        tokens_per_answer, tokens_per_second = speed
        tokens = min(round(answers * tokens_per_answer), most)
        seconds = round(tokens / tokens_per_second, 1)
    return Estimate(lengths.rows, lengths.failed_rows, lengths.first, lengths.total, most, tokens, seconds)


def _last_speed(folder: Path) -> tuple[float, float] | None:
    """Tokens an answer and tokens a second of the newest run that was generated in one go, so that its time counts all rows."""
    for path in sorted(_manifests(folder), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            counts, seconds = facts["counts"], facts["seconds"]["generation"]
            answers, tokens = sum(counts["finish_reasons"].values()), counts["completion_tokens"]
            if facts["generated_rows"] == counts["rows"] and answers and tokens and seconds:
                return tokens / answers, tokens / seconds
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return None


def _manifests(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob(f"*/{MANIFEST}") if not path.parent.is_symlink())
