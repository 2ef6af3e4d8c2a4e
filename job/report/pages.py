"""Rows -> pages that a browser reads one at a time, and an index of all rows that it filters by. Pure.

A page is JSON, deflated, in base64: text that a browser neither parses nor keeps in memory until it is looked at.
"""

import base64
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from job.report.comparison import Mismatches
from job.report.rows import Cell, Row, Sample

PAGE_ROWS = 200
PAGE_CHARACTERS = 500_000  # a page takes some milliseconds to read
REASONS = ("stop", "length", "repetition", "too_long", "error")  # a bit each, in this order; anything else counts as an error
_LEVEL = 6
_GROUPS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Pages:
    """Makes the pages while rows go by; afterwards it has the index, and what was noticed on the way."""

    def __init__(self, runs: int) -> None:
        self.mismatches = Mismatches()
        self.rows = 0
        self._starts: list[int] = []
        self._reasons: list[list[int]] = [[] for _ in range(runs)]
        self._tokens: list[list[int]] = [[] for _ in range(runs)]
        self._groups: list[str] = []

    def of(self, rows: Iterable[Row]) -> Iterator[str]:
        """The pages, as they are written into the report."""
        page: list[object] = []
        characters = 0
        for row in rows:
            self._note(row)
            page.append(_packed_row(row))
            characters += _size(row)
            if len(page) == PAGE_ROWS or characters >= PAGE_CHARACTERS:
                yield self._closed(page)
                page, characters = [], 0
        if page:
            yield self._closed(page)

    def index(self) -> str:
        """Of each page, its first row; of each row, and run by run: finish reasons as bits, tokens, and who answers alike."""
        return packed(
            {
                "starts": self._starts,
                "rows": self.rows,
                "reasons": self._reasons,
                "tokens": self._tokens,
                "groups": self._groups,
            }
        )

    def _closed(self, page: Sequence[object]) -> str:
        self._starts.append(self.rows - len(page))
        return packed(page)

    def _note(self, row: Row) -> None:
        self.rows += 1
        for place, cell in enumerate(row.cells):
            self._reasons[place].append(_bits(cell.samples) if cell else 0)
            self._tokens[place].append(max((sample.tokens for sample in cell.samples), default=0) if cell else -1)
        self._groups.append(_alike(row.cells))
        there = [cell for cell in row.cells if cell]
        seen = self.mismatches
        self.mismatches = replace(
            seen,
            absent=seen.absent + (len(there) < len(row.cells)),
            instructions=seen.instructions + (len({cell.instruction for cell in there}) > 1),
            prompts=seen.prompts + (len({cell.prompt for cell in there}) > 1),
        )


def packed(value: object) -> str:
    """JSON, deflated without a header, in base64."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    content = text.encode("utf-8", "replace")
    return base64.b64encode(compressor.compress(content) + compressor.flush()).decode("ascii")


def _packed_row(row: Row) -> list[object]:
    """Instruction, other columns, and of each run its prompt (or the number of a run that had the same), and its samples."""
    prompts: dict[str | None, int] = {}
    cells: list[object] = []
    for place, cell in enumerate(row.cells):
        if cell is None:
            cells.append(None)
            continue
        same = prompts.setdefault(cell.prompt, place)
        prompt = cell.prompt if same == place else same
        samples = [[sample.text, sample.reason, sample.tokens] for sample in cell.samples]
        cells.append([prompt, cell.prompt_tokens, samples])
    return [row.instruction, dict(row.others), cells]


def _bits(samples: Sequence[Sample]) -> int:
    bits = 0
    for sample in samples:
        bits |= 1 << (REASONS.index(sample.reason) if sample.reason in REASONS else len(REASONS) - 1)
    return bits


def _alike(cells: Sequence[Cell | None]) -> str:
    """A letter for each run: runs with the same letter gave the same texts. Beyond 36 kinds of answers, none is told apart."""
    kinds: dict[tuple[str | None, ...] | None, int] = {}
    texts = [tuple(sample.text for sample in cell.samples) if cell else None for cell in cells]
    found = [kinds.setdefault(each, len(kinds)) for each in texts]
    return "".join(_GROUPS[min(kind, len(_GROUPS) - 1)] for kind in found)


def _size(row: Row) -> int:
    texts = (len(sample.text or "") for cell in row.cells if cell for sample in cell.samples)
    prompts = (len(cell.prompt or "") for cell in row.cells if cell)
    return len(row.instruction) + sum(texts) + sum(prompts) + sum(map(len, row.others.values()))
