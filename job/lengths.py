"""Lengths of prompts, counted while they go by: what a user looks at before spending hours."""

from collections import Counter
from collections.abc import Iterable, Iterator

from job.records import Prompt


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
