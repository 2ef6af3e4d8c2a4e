"""The command of a dataset card, taken out of it and carried out as a person would."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.support import ROOT, environment

PARSER = MarkdownIt("commonmark").enable("table")


def parsed(card: str) -> Sequence[Token]:
    """The Markdown below a card's metadata."""
    return PARSER.parse(card.split("---\n", 2)[2])


def command_in(card: str) -> str:
    """The only block of bash."""
    (fence,) = (token for token in parsed(card) if token.type == "fence" and token.info == "bash")
    return fence.content


@dataclass(frozen=True, slots=True)
class Repeated:
    """What became of it."""

    code: int
    events: Sequence[Mapping[str, Any]]

    @property
    def folder(self) -> Path:
        return Path(self.events[-1]["results"])


def carry_out(command: str, folder: Path, **variables: object) -> Repeated:
    """Type it into bash, in a new folder where the job can be found. variables: what the person has in the environment."""
    folder.mkdir()
    given = environment(OUTPUT_DIR=folder / "results", PYTHONPATH=ROOT, **variables)
    given["PATH"] = f"{Path(sys.executable).parent}:{given['PATH']}"
    done = subprocess.run(["bash", "-eu"], input=command, cwd=folder, env=given, capture_output=True, text=True, timeout=280)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events, done.stderr
    return Repeated(done.returncode, events)
