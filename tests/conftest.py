"""What every test gets: a cache of its own session, logging put back to how it was."""

import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from job import plot
from tests.support import write_jsonl

# Bytecode is kept, of the tests with their rewritten asserts too: else each process of the tests compiles all that it imports.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# What a shell starts in the background, CI perhaps, ignores Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """datasets and huggingface_hub read HF_HOME when they are imported: keep the user's own cache out of it."""
    before = os.environ.get("HF_HOME")
    os.environ["HF_HOME"] = str(tmp_path_factory.mktemp("hf"))
    yield
    if before is None:
        del os.environ["HF_HOME"]
    else:
        os.environ["HF_HOME"] = before


@pytest.fixture(autouse=True)
def _plain_logging() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(autouse=True)
def _plain_hub_client() -> Iterator[None]:
    """A run in this process leaves its limits with huggingface_hub, and may have been stopped: no later test is to be, too."""
    yield
    if "huggingface_hub" in sys.modules:
        from huggingface_hub import set_client_factory
        from huggingface_hub.utils._http import default_client_factory

        set_client_factory(default_client_factory)


@functools.cache
def _drawn(counts: str, draw: Callable[[Mapping[str, Any]], bytes] = plot.lengths_png) -> bytes:
    return draw(json.loads(counts))


@pytest.fixture(autouse=True)
def _plots_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the runs in this process: they would spend half of their time on the same plot."""
    monkeypatch.setattr(plot, "lengths_png", lambda counts: _drawn(json.dumps(counts)))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def three_rows(tmp_path: Path) -> Path:
    """A dataset of three rows with an extra column."""
    rows = [
        {"instruction": text, "id": number} for number, text in enumerate(["Say hello.", "Count to three.", "Name a colour."])
    ]
    return write_jsonl(tmp_path / "three.jsonl", rows)
