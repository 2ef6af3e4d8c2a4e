"""Journal and source rows -> the results folder: parquet in source order, then the card, then run.json as the last word."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from job.disk import make_folder, move_whole, open_new
from job.errors import DatasetError, OutputError
from job.files import read_json
from job.identity import row_seed
from job.layout import CARD, MANIFEST
from job.records import ANSWERED, RUNAWAYS, Completion, DataFile, ResultRow, Tally
from job.references import sha256_of

# What a row group holds at least, before it is compressed. The writer keeps a description of each group until the end: with
# groups of 1,000 rows, twenty million short rows took 450 MB.
GROUP_BYTES = 16 * 2**20
_TALLY, _FILES = TypeAdapter(Tally), TypeAdapter(list[DataFile])


@dataclass(frozen=True, slots=True)
class Written:
    """What `write_data` wrote."""

    file: DataFile
    tally: Tally


def result_columns(num_samples: int) -> pa.Schema:
    """The columns that the job adds; lists where a row has several samples."""

    def per_sample(kind: pa.DataType) -> pa.DataType:
        return kind if num_samples == 1 else pa.list_(kind)

    return pa.schema(
        {
            "prompt": pa.string(),
            "answers": per_sample(pa.string()),
            "finish_reason": per_sample(pa.string()),
            "prompt_tokens": pa.int32(),
            "completion_tokens": per_sample(pa.int32()),
            "seed": per_sample(pa.int64()),
        }
    )


def check_names(source: pa.Schema, dropped: Sequence[str], num_samples: int) -> None:
    """Raises: DatasetError where a source column has the name of a result column."""
    taken = [name for name in source.names if name in result_columns(num_samples).names and name not in dropped]
    if taken:
        raise DatasetError(
            f"the dataset has columns that the results need the names of: {', '.join(taken)}. "
            f"Leave them out with DROP_COLUMNS={','.join([*dropped, *taken])}, or rename them."
        )


def write_data(
    folder: Path,
    path: str,
    schema: pa.Schema,
    source: Iterator[pa.Table],
    finished: Iterator[ResultRow],
    *,
    seed: int,
    num_samples: int,
    start: int = 0,
) -> Written:
    """Write the parquet file; it appears whole or not at all.

    schema: source columns first, then `result_columns`; source: tables of those source columns; finished: all their rows;
    start: the position of the first one. A row group is made of whole source tables, so the same rows always make the same
    bytes.
    """
    target = folder / path
    make_folder(target.parent)
    half_made = target.with_suffix(".tmp")
    count = _Counter()
    try:
        with (
            open_new(half_made) as content,
            pq.ParquetWriter(content, schema, compression="zstd", write_page_index=True) as writer,
        ):
            group: list[pa.Table] = []
            for table in source:
                rows = [_expect(folder, finished, start + count.rows + offset) for offset in range(table.num_rows)]
                joined = _joined(table, rows, schema, seed, num_samples)
                count.add(rows, joined)
                group.append(joined)
                if sum(part.nbytes for part in group) >= GROUP_BYTES:
                    _write_group(writer, group)
                    group = []
            _write_group(writer, group)
        move_whole(half_made, target)
    except BaseException:
        half_made.unlink(missing_ok=True)
        raise
    file = DataFile(path, count.rows, target.stat().st_size, count.memory_bytes, sha256_of(target))
    return Written(file, count.tally())


def _write_group(writer: pq.ParquetWriter, tables: Sequence[pa.Table]) -> None:
    if tables:
        joined = pa.concat_tables(tables)
        writer.write_table(joined, row_group_size=joined.num_rows)


def read_finished(folder: Path, path: str, rows: int, beside: Sequence[str] = (CARD,)) -> dict[str, Any] | None:
    """The manifest of results that are complete for this many rows and whose file is unharmed; None where they are not.

    path: of the data; beside: other files that must be there. A link is not ours, nor is a manifest that names another file:
    either could publish one from elsewhere.
    """
    if any((folder / name).is_symlink() for name in (MANIFEST, path, *beside)):
        return None
    try:
        manifest: dict[str, Any] = read_json(folder / MANIFEST)
        file = file_of(manifest, path, rows)
        sound = file is not None and file.sha256 == sha256_of(folder / path)
        complete = all((folder / name).is_file() for name in beside)
    except (OSError, ValueError):
        return None
    return manifest if sound and complete else None


def file_of(manifest: Mapping[str, Any], path: str, rows: int) -> DataFile | None:
    """The one data file of a manifest, if it is this one and has so many rows; None also where it is no manifest."""
    try:
        (file,) = files_of(manifest)
        right = file.path == path and tally_of(manifest).rows == file.rows == rows
    except (ValueError, KeyError, TypeError):
        return None
    return file if right else None


def tally_of(manifest: Mapping[str, Any]) -> Tally:
    """Raises: ValueError, KeyError, TypeError where it is no manifest."""
    return _TALLY.validate_python(manifest["counts"])


def files_of(manifest: Mapping[str, Any]) -> list[DataFile]:
    """Raises: as `tally_of`."""
    return _FILES.validate_python(manifest["files"])


def _expect(folder: Path, finished: Iterator[ResultRow], position: int) -> ResultRow:
    row = next(finished, None)
    if row is None or row.position != position:
        raise OutputError(f"{folder}: the journal lacks row {position}: run the same command again to answer it.")
    return row


def _joined(table: pa.Table, rows: Sequence[ResultRow], schema: pa.Schema, seed: int, num_samples: int) -> pa.Table:
    """The source table with the result columns of its rows."""

    def per_sample(values: Iterator[list[Any]]) -> list[Any]:
        return [samples[0] for samples in values] if num_samples == 1 else list(values)

    added = {
        "prompt": [row.prompt for row in rows],
        "answers": per_sample([done.text for done in row.completions] for row in rows),
        "finish_reason": per_sample([done.finish_reason for done in row.completions] for row in rows),
        "prompt_tokens": [row.prompt_tokens for row in rows],
        "completion_tokens": per_sample([done.tokens for done in row.completions] for row in rows),
        "seed": per_sample([row_seed(seed, row.position, sample) for sample in range(num_samples)] for row in rows),
    }
    columns = [*table.columns, *(pa.array(values, schema.field(name).type) for name, values in added.items())]
    return pa.Table.from_arrays(columns, schema=schema)


class _Counter:
    """Adds up the tally while rows go by."""

    def __init__(self) -> None:
        self.memory_bytes = self.rows = 0
        self._failed = self._prompt_tokens = self._completion_tokens = self._runaway_tokens = 0
        self._reasons: Counter[str] = Counter()
        self._lengths: Counter[int] = Counter()
        self._runaway_lengths: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def add(self, rows: Sequence[ResultRow], table: pa.Table) -> None:
        self.memory_bytes += table.nbytes
        self.rows += len(rows)
        for row in rows:
            self._failed += not row.answered
            self._prompt_tokens += row.prompt_tokens
            for done in row.completions:
                self._add_completion(done)

    def _add_completion(self, done: Completion) -> None:
        self._reasons[done.finish_reason] += 1
        self._completion_tokens += done.tokens
        if done.finish_reason in ANSWERED:
            self._lengths[done.tokens] += 1
        if done.finish_reason in RUNAWAYS:
            self._runaway_tokens += done.tokens
            self._runaway_lengths[done.finish_reason][done.tokens] += 1

    def tally(self) -> Tally:
        reasons, lengths = dict(sorted(self._reasons.items())), dict(sorted(self._lengths.items()))
        tokens = (self._prompt_tokens, self._completion_tokens, self._runaway_tokens)
        runaway_lengths = {reason: dict(sorted(counts.items())) for reason, counts in sorted(self._runaway_lengths.items())}
        return Tally(self.rows, self._failed, reasons, *tokens, lengths, runaway_lengths)
