"""The rows of a split, read as a stream from the Arrow files that `datasets` converts everything into: memory stays flat."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from job.errors import DatasetError
from job.records import Row

CHUNK_ROWS = 1000


@dataclass(frozen=True, slots=True)
class SourceRows:
    """The rows of one split, in order.

    rows: how many there are, after MAX_ROWS; schema: of all source columns, with the features as `datasets` keeps them; start:
    the position of the first one.
    """

    rows: int
    schema: pa.Schema
    _files: tuple[Path, ...]
    start: int = 0

    @property
    def positions(self) -> range:
        """Their positions in the whole split."""
        return range(self.start, self.start + self.rows)

    def part(self, positions: range) -> "SourceRows":
        """Some of the rows."""
        return replace(self, rows=len(positions), start=positions.start)

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows as tables of CHUNK_ROWS rows (the last one may be shorter), whatever the files were cut into."""
        chunk, left, skipped = _Chunk(), self.rows, self.start
        for batch in self._batches(columns):
            used = min(skipped, batch.num_rows)
            skipped -= used
            while left and (taken := min(batch.num_rows - used, CHUNK_ROWS - chunk.rows, left)):
                chunk.add(batch.slice(used, taken))
                used += taken
                left -= taken
                if chunk.rows == CHUNK_ROWS:
                    yield chunk.take()
            if not left:
                break
        if chunk.rows:
            yield chunk.take()

    def __iter__(self) -> Iterator[Row]:
        return self.select(self.schema.names)

    def select(self, columns: Sequence[str]) -> Iterator[Row]:
        """All rows with these columns only, as Python values."""
        position = self.start
        for table in self.tables(columns):
            for values in table.to_pylist():
                yield Row(position, values)
                position += 1

    def _batches(self, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        # Read rather than mapped: mapped pages would count as this process's memory.
        for path in self._files:
            with pa.OSFile(str(path), "rb") as file, pa.ipc.open_stream(file) as stream:
                for batch in stream:
                    _check_text(batch)
                    yield batch if columns is None else batch.select(list(columns))


class _Chunk:
    """Record batches being collected into one table."""

    def __init__(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self.rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self._batches.append(batch)
        self.rows += batch.num_rows

    def take(self) -> pa.Table:
        table = pa.Table.from_batches(self._batches)
        self._batches, self.rows = [], 0
        return table


def _check_text(batch: pa.RecordBatch) -> None:
    """Raises: DatasetError where text is not UTF-8: `datasets` takes whatever bytes a JSON file has."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            raise DatasetError(f"column {name} of the dataset: {error}. Save the dataset as UTF-8.") from error
