"""A browser for the session, and reports that it opens."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from job.report.writing import write_report
from tests.browser.chromium import Page, chromium, found
from tests.result_folders import Answer, Made, write_results

MODELS = ("org/model-a", "org/model-b", "org/model-c")
WORDS = "the quick brown fox jumps over the lazy dog and runs away"


def no_hub() -> NoReturn:
    raise AssertionError("nothing here is on the Hub")


def make_report(folder: Path, rows: Sequence[tuple[str, Sequence[Answer]]], models: Sequence[str] = MODELS) -> Path:
    """A report of these rows: an instruction, and the answer of each model."""
    folders = [
        write_results(folder / f"run-{place}", [({"instruction": text}, [each[place]]) for text, each in rows], Made(model))
        for place, model in enumerate(models)
    ]
    report = folder / "report.html"
    write_report([str(each) for each in folders], report, no_hub)
    return report


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if found() is None:
        pytest.skip("no Chromium here: install one (INSTALL_TOOLS=1 make test-report does), or name it with CHROMIUM")
    with chromium(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def page(browser: Page) -> Page:
    """The tab, as on a desk, with nothing noted yet."""
    browser.looks(width=1280, height=900)
    for noted in (browser.requests, browser.blocked, browser.console, browser.dialogs):
        noted.clear()
    return browser


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models, 450 rows in several pages: every third row answered alike, every fifth of the second model cut, and row 7
    of the last one failed."""

    def answer(row: int, model: int) -> Answer:
        if row == 7 and model == 2:
            return Answer(None, "error", 0)
        text = f"Answer {row}." if row % 3 == 0 else f"Answer {row} of {model}: {WORDS.replace('fox', f'fox{model}')}."
        return Answer(text, "length" if row % 5 == 0 and model == 1 else "stop", 10 + row)

    rows = [(f"Instruction number {row}", [answer(row, model) for model in range(3)]) for row in range(450)]
    return make_report(tmp_path_factory.mktemp("report"), rows)
