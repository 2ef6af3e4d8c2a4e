"""Lengths of prompts, counted while they go by: what a user looks at before spending hours; and of the answers, afterwards."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from job.records import RUNAWAYS, Prompt

_NOTABLE_SHARE, _NOTABLE_TOKEN_SHARE = 0.01, 0.1


class Lengths:
    """Lengths in tokens of the prompts that can be answered.

    limit: MAX_MODEL_LEN, in tokens; rows: prompts that can be answered; failed_rows: those that cannot; first: the first
    prompt's text, None before there is one.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lengths: Counter[int] = Counter()
        self.rows = 0
        self.failed_rows = 0
        self.first: str | None = None

    def count(self, prompts: Iterable[Prompt]) -> Iterator[Prompt]:
        """The same prompts, counted."""
        for prompt in prompts:
            if prompt.failure:
                self.failed_rows += 1
            else:
                self.rows += 1
                self._lengths[prompt.tokens] += 1
                if self.first is None:
                    self.first = prompt.text
            yield prompt

    @property
    def total(self) -> int:
        """Tokens of all prompts."""
        return sum(length * rows for length, rows in self._lengths.items())

    def room(self, max_tokens: int) -> int:
        """Tokens that the answers have at most: each up to max_tokens, or to the limit of prompt and answer together."""
        return sum(min(max_tokens, self._limit - length) * rows for length, rows in self._lengths.items())

    def histogram(self) -> dict[str, int]:
        """Rows by length: `<=64` for those of up to 64 tokens that are longer than 32, and so on up to the limit."""
        bounds = [2**power for power in range(self._limit.bit_length()) if 2**power < self._limit] + [self._limit]
        counts = dict.fromkeys(bounds, 0)
        for length, rows in self._lengths.items():
            counts[next(bound for bound in bounds if length <= bound)] += rows
        return {f"<={bound}": rows for bound, rows in counts.items() if rows}


@dataclass(frozen=True, slots=True)
class AnswerLengths:
    """How long the answers are, and what those cost that the model did not end by itself: the runaways.

    answers: with a text, samples where there are several; lengths in tokens, 0 where there is no answer; shares from 0 to 1,
    runaway_token_share of all generated tokens.
    """

    answers: int
    runaways: int
    runaway_share: float
    runaway_tokens: int
    runaway_token_share: float
    median_tokens: int
    p95_tokens: int
    p99_tokens: int
    longest_tokens: int

    @property
    def are_notable(self) -> bool:
        """Whether so many are runaways that they decide what the run costs, or what its answers are worth."""
        return self.runaway_share >= _NOTABLE_SHARE or self.runaway_token_share >= _NOTABLE_TOKEN_SHARE

    @property
    def told(self) -> str:
        """The runaways, for people."""
        return (
            f"{self.runaways} of {self.answers} answers ({100 * self.runaway_share:.1f} %), "
            f"{100 * self.runaway_token_share:.1f} % of the generated tokens"
        )


def of_answers(counts: Mapping[str, Any]) -> AnswerLengths:
    """counts: a tally's values by their names, also as they are read from a manifest."""
    lengths = _by_number(counts["lengths"])
    answers, runaway_tokens = sum(lengths.values()), counts["runaway_tokens"]
    runaways = sum(number for reason, number in counts["finish_reasons"].items() if reason in RUNAWAYS)
    return AnswerLengths(
        answers,
        runaways,
        _share(runaways, answers),
        runaway_tokens,
        _share(runaway_tokens, counts["completion_tokens"]),
        _reached_by(lengths, 50),
        _reached_by(lengths, 95),
        _reached_by(lengths, 99),
        max(lengths, default=0),
    )


def by_reason(counts: Mapping[str, Any]) -> dict[str, dict[int, int]]:
    """Answers by their tokens, for each finish reason that has some; under "" where a manifest does not tell them apart.

    counts: as for `of_answers`.
    """
    lengths = _by_number(counts["lengths"])
    reasons, told = counts["finish_reasons"], counts.get("runaway_lengths", {})
    runaways = {reason: _by_number(told.get(reason, {})) for reason in sorted(RUNAWAYS) if reasons.get(reason)}
    if any(sum(each.values()) != reasons[reason] for reason, each in runaways.items()):
        return {"": lengths} if lengths else {}
    stopped = Counter(lengths)
    for each in runaways.values():
        stopped.subtract(each)
    ended = {tokens: number for tokens, number in stopped.items() if number > 0}
    return ({"stop": ended} if ended else {}) | runaways


def _by_number(lengths: Mapping[Any, int]) -> dict[int, int]:
    """With numbers as names, which are texts in a manifest."""
    return {int(tokens): number for tokens, number in lengths.items()}


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def _reached_by(lengths: Mapping[int, int], percent: int) -> int:
    """The shortest length that so many per cent of the answers do not exceed."""
    below, wanted = 0, sum(lengths.values()) * percent
    for tokens, number in sorted(lengths.items()):
        below += number
        if 100 * below >= wanted:
            return tokens
    return 0
