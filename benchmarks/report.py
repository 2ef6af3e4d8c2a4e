"""The side-by-side report of three models: size, and how long a person waits, from the test set of 334 rows to 50,000.

The answers are made here, of the words of this project's pages as often as they occur there, 20 to 600 of them each, and
Markdown among them. The command is a real process; the page is opened from the disk in a headless Chromium. Measured in the
page: until the rows are there and keys are heard, until the next rows are drawn, until a filter is through, and until a search
for what is nowhere has read all answers.

Run it from the root of the project: `python -m benchmarks.report --rows 334 50000`. All files lie in a temporary folder (in
TMPDIR) and are gone at the end. Exit code 1 where a bound below is missed.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.browser.chromium import Page, chromium, found
from tests.result_folders import Answer, Made, write_results

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("org/model-a", "org/model-b", "org/model-c")
MEGABYTE = 10**6
SMALL_ROWS, MAX_SMALL_BYTES = 334, 5 * MEGABYTE
MAX_READY_SECONDS = 5.0
MAX_TURN_SECONDS = 0.5

HEADER = """\
| rows | answers MB | report MB | written in s | peak MB | ready s | next rows s | filter s | search all s | page's memory MB |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One size. Bytes of the answers' text, of the report, of memory; seconds of the command, and of what a person does."""

    rows: int
    answer_bytes: int
    report_bytes: int
    write_seconds: float
    peak_bytes: int
    ready: float
    turn: float
    filtered: float
    searched: float
    page_bytes: int

    @property
    def line(self) -> str:
        sizes = (self.answer_bytes, self.report_bytes, self.peak_bytes, self.page_bytes)
        answers, report, peak, page = (size / MEGABYTE for size in sizes)
        waits = " | ".join(f"{wait:.2f}" for wait in (self.ready, self.turn, self.filtered, self.searched))
        return (
            f"| {self.rows:,} | {answers:.1f} | {report:.2f} | {self.write_seconds:.1f} | {peak:.0f} | {waits} | {page:.0f} |"
        )

    @property
    def missed(self) -> list[str]:
        small = self.rows <= SMALL_ROWS and self.report_bytes > MAX_SMALL_BYTES
        told = {"report MB": small, "ready s": self.ready > MAX_READY_SECONDS, "next rows s": self.turn > MAX_TURN_SECONDS}
        return [f"{self.rows} rows: {name}" for name, is_missed in told.items() if is_missed]


def answers(rows: int, seed: int, counter: dict[str, int]) -> Iterator[tuple[Mapping[str, object], list[Answer]]]:
    """Rows of one model: the same instructions for each seed, other answers, every tenth row's answer the same."""
    words = re.findall(r"\S+", "".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md"))))
    same, own = random.Random(0), random.Random(seed)  # noqa: S311 (no secret)
    for position in range(rows):
        instruction = " ".join(same.choices(words, k=same.randint(8, 40)))
        shared = _text(words, same)
        text = shared if position % 10 == 0 else _text(words, own)
        counter["bytes"] += len(text.encode())
        yield {"instruction": instruction}, [Answer(text, "length" if own.random() < 0.05 else "stop")]


def _text(words: list[str], dice: random.Random) -> str:
    parts = [" ".join(dice.choices(words, k=dice.randint(20, 120))) for _ in range(dice.randint(1, 5))]
    return "\n\n".join(f"- **{part}**" if dice.random() < 0.2 else part for part in parts)


def measure(rows: int, folder: Path) -> Measured:
    counter = {"bytes": 0}
    folders = [
        write_results(folder / name.rsplit("/", 1)[-1], answers(rows, seed, counter), Made(name))
        for seed, name in enumerate(MODELS, 1)
    ]
    report = folder / "report.html"
    command = [sys.executable, "-m", "job.report", *map(str, folders), "--output", str(report)]
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    if status:
        raise SystemExit(f"the report ended with {os.waitstatus_to_exitcode(status)}")
    with chromium(folder) as page:
        waits = (_ready(page, report), _turn(page), _filtered(page), _searched(page))
        memory = page.eval("performance.memory.usedJSHeapSize")
    size = report.stat().st_size
    return Measured(rows, counter["bytes"], size, seconds, usage.ru_maxrss * 1024, *waits, memory)


def _ready(page: Page, report: Path) -> float:
    """From the start of the navigation, by the page's own clock."""
    page.open(report.as_uri())
    return float(page.eval("performance.getEntriesByName('ready')[0].startTime")) / 1000


def _turn(page: Page) -> float:
    before = page.eval("document.querySelector('.row').id")
    started = time.monotonic()
    page.press("n")
    page.until(f"document.querySelector('.row').id !== '{before}'")
    return time.monotonic() - started


def _filtered(page: Page) -> float:
    started = time.monotonic()
    page.choose("same", "identical")
    page.until("document.getElementById('count').textContent.includes(' of ')")
    return time.monotonic() - started


def _searched(page: Page) -> float:
    page.choose("same", "")
    started = time.monotonic()
    page.choose("q", "nowhere to be found")
    page.until("/^0 of [\\d,]+ rows$/.test(document.getElementById('count').textContent)", seconds=300)
    return time.monotonic() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[SMALL_ROWS, 50_000])
    rows = parser.parse_args().rows
    if not found():
        raise SystemExit("no Chromium here: install one, or name it with CHROMIUM")
    print(HEADER, flush=True)
    missed = []
    for count in rows:
        with tempfile.TemporaryDirectory() as folder:
            measured = measure(count, Path(folder))
        print(measured.line, flush=True)
        missed += measured.missed
    print(f"\nmissed: {', '.join(missed)}" if missed else "\nall bounds held")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
