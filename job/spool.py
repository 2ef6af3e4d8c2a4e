"""Prompts waiting for the engine, on disk: made once, read back in order, in bounded memory.

The file has no name, so it is gone with the process, however that ends.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from job.disk import disk_errors
from job.records import Failure, Prompt

_BATCH_ROWS = 256
_COLUMNS: dict[str, pa.DataType] = {
    "position": pa.int64(),
    "text": pa.large_string(),
    "token_ids": pa.list_(pa.int32()),
    "tokens": pa.int32(),
    "reason": pa.string(),
    "message": pa.string(),
}
_SCHEMA = pa.schema(_COLUMNS)


class Spool:
    """Prompts on disk, in the order they were written.

    rows, failures: how many there are, and how many of them cannot be answered; first_failures: a few of those, to be named;
    canary: the token ids of the fixed prompts that come before them, if any do: see job.canary.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with disk_errors(folder):
            self._file: Any = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by __exit__)
        self.rows = 0
        self.failures = 0
        self.first_failures: list[Prompt] = []
        self.canary: Sequence[Sequence[int]] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(OSError):  # closing writes what is left, which on a full disk fails once more
            self._file.close()

    def write(self, prompts: Iterable[Prompt]) -> None:
        """Write all prompts; once."""
        stream = iter(prompts)
        with disk_errors(self._folder):
            writer = pa.ipc.new_stream(self._file, _SCHEMA)
        while batch := list(islice(stream, _BATCH_ROWS)):
            self._count(batch)
            with disk_errors(self._folder):
                writer.write_batch(pa.RecordBatch.from_pylist([_columns(prompt) for prompt in batch], _SCHEMA))
        with disk_errors(self._folder):
            writer.close()
            self._file.flush()

    def __iter__(self) -> Iterator[Prompt]:
        self._file.seek(0)
        with pa.ipc.open_stream(self._file) as reader:
            for batch in reader:
                yield from map(_prompt, batch.to_pylist())

    def _count(self, prompts: list[Prompt]) -> None:
        self.rows += len(prompts)
        failed = [prompt for prompt in prompts if prompt.failure]
        self.failures += len(failed)
        self.first_failures += failed[: 3 - len(self.first_failures)]


def _columns(prompt: Prompt) -> dict[str, object]:
    return {
        "position": prompt.position,
        "text": prompt.text,
        "token_ids": prompt.token_ids,
        "tokens": prompt.tokens,
        "reason": prompt.failure and prompt.failure.reason,
        "message": prompt.failure and prompt.failure.message,
    }


def _prompt(columns: dict[str, object]) -> Prompt:
    reason = columns.pop("reason")
    message = columns.pop("message")
    return Prompt(**columns, failure=Failure(reason, message) if reason else None)  # type: ignore[arg-type]
