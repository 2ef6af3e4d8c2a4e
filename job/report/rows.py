"""Edge: the parquet files of several runs -> their rows, matched by position. A batch of each is in memory at a time."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from job.errors import OutputError
from job.files import open_file
from job.references import sha256_of
from job.report.runs import Manifest

_BATCH_ROWS = 256
_RESULTS = ("prompt", "answers", "finish_reason", "prompt_tokens", "completion_tokens")
_SHOWN_CHARACTERS = 4000  # of a source column that is not the instruction


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer. text: None where the row failed."""

    text: str | None
    reason: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Cell:
    """What one run made of a row."""

    instruction: str
    prompt: str | None
    prompt_tokens: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A row in all runs. others: its other source columns as texts; cells: in the runs' order, None where a run lacks it."""

    position: int
    instruction: str
    others: Mapping[str, str]
    cells: tuple[Cell | None, ...]


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raises: OutputError where a data file is not there or is not the one that run.json describes."""
    for file in manifest.files:
        path = folder / file.path
        try:
            sound = sha256_of(path) == file.sha256
        except OSError as error:
            raise _damaged(path, error.strerror or str(error)) from error
        if not sound:
            raise _damaged(path, "its content is not what run.json says")


def rows(folders: Sequence[Path], manifests: Sequence[Manifest]) -> Iterator[Row]:
    """All rows that any run has, in order. Raises: OutputError where a file cannot be read."""
    runs = [_run(folder, manifest) for folder, manifest in zip(folders, manifests, strict=True)]
    for position, found in enumerate(zip_longest(*runs)):
        instruction, others = next((each[0].instruction, each[1]) for each in found if each)
        yield Row(position, instruction, others, tuple(each[0] if each else None for each in found))


def _run(folder: Path, manifest: Manifest) -> Iterator[tuple[Cell, Mapping[str, str]]]:
    column = str(manifest.facts.get("instruction_column", ""))
    for file in manifest.files:
        path = folder / file.path
        with _reading(path), open_file(path) as content, pq.ParquetFile(content) as parquet:
            if missing := [name for name in _RESULTS if name not in parquet.schema_arrow.names]:
                raise _damaged(path, f"it has no column {missing[0]}")
            for batch in parquet.iter_batches(_BATCH_ROWS):
                for values in batch.to_pylist():
                    yield _cell(values, column), _others(values, column)


def _cell(values: Mapping[str, Any], column: str) -> Cell:
    answers, reasons, tokens = (values[name] for name in ("answers", "finish_reason", "completion_tokens"))
    samples = zip(answers, reasons, tokens, strict=True) if isinstance(reasons, list) else [(answers, reasons, tokens)]
    prompt = _text_or_none(values["prompt"])
    instruction = values.get(column, prompt)
    return Cell(
        "" if instruction is None else _text(instruction),
        prompt,
        int(values["prompt_tokens"] or 0),
        tuple(Sample(_text_or_none(text), str(reason), int(count or 0)) for text, reason, count in samples),
    )


def _text_or_none(value: object) -> str | None:
    """Raises: TypeError for anything else: no run writes it, and the page takes it for text."""
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"an answer or a prompt is {type(value).__name__}, and no text")


def _others(values: Mapping[str, Any], column: str) -> dict[str, str]:
    names = (name for name in values if name not in (*_RESULTS, "seed", column) and values[name] is not None)
    return {name: _cut(_text(values[name])) for name in names}


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=lambda other: f"({type(other).__name__})")


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}… ({len(text)} characters)"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, ValueError, TypeError) as error:
        raise _damaged(path, str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def _damaged(path: Path, reason: str) -> OutputError:
    return OutputError(
        f"{path}: cannot be read: {reason}. Run the same job again, which writes it anew from its journal, or take another "
        f"copy of the results."
    )
