"""Edge: the source rows, from the Hub or from local files, at a known commit. The only import of `datasets`.

`datasets` converts whatever it reads into Arrow files once; here they are read as a stream, so memory does not grow with rows.
"""

import glob
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from job.errors import AccessError, DatasetError, JobError, OutputError, Problem, SettingsError
from job.records import DataFile, Row, Source
from job.references import DATA_SUFFIXES, is_damaged
from job.settings import DataSettings

READERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}
# pandas, under the CSV reader, turns words such as "NA" and "null" into missing values: only an empty cell is one here.
CSV_OPTIONS = {"keep_default_na": False, "na_values": [""]}
CHUNK_ROWS = 1000
# What `datasets` and its readers say of files without a row: none of it tells a user so.
NO_ROWS = ("corresponds to no data", "BatchSize must be greater than 0", "No columns to parse from file", "any data files")


@dataclass(frozen=True, slots=True)
class SourceRows:
    """The rows of one split, in order.

    rows: how many there are, after MAX_ROWS; schema: of all source columns, with the features as `datasets` keeps them.
    """

    rows: int
    schema: pa.Schema
    _files: tuple[Path, ...]

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows as tables of CHUNK_ROWS rows (the last one may be shorter), whatever the files were cut into."""
        chunk, left = _Chunk(), self.rows
        for batch in self._batches(columns):
            used = 0
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
        position = 0
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


Read = Callable[[Callable[[], Any]], Any]


def open_rows(
    settings: DataSettings, source: Source, token: str | None = None, read: Read = lambda attempt: attempt()
) -> SourceRows:
    """Load the split and check its columns.

    read: calls what is given to it, again where it fails for a reason that passes by itself; an error of the Hub becomes one of
    this job there, and any other one comes back as it is.
    Raises: DatasetError naming what exists, where a file, split, config or column does not; SettingsError, AccessError where
    the Hub has or gives no such dataset; what `read` raises.
    """
    with _errors_named(settings):
        loaded: SourceRows = read(lambda: _load(settings, source, token))
    schema = loaded.schema
    _check_columns(settings, schema)
    rows = min(loaded.rows, settings.max_rows or loaded.rows)
    if not rows:
        raise DatasetError(f"DATASET_ID={settings.dataset_id}: split {settings.dataset_split} has no rows.")
    return replace(loaded, rows=rows)


def check_files(reference: str) -> Path:
    """The path of a local dataset.

    Raises: DatasetError where it is missing or of a kind that cannot be read.
    """
    path = Path(reference).expanduser()
    if not path.exists():
        raise DatasetError(f"DATASET_ID={reference}: no such file or folder.{_neighbours(path)}")
    if path.is_dir() and glob.has_magic(str(path)):
        raise DatasetError(f"DATASET_ID={reference}: `datasets` takes *, ? and [ in a folder's path for patterns: rename it.")
    if path.is_file() and path.suffix not in DATA_SUFFIXES:
        raise DatasetError(
            f"DATASET_ID={reference}: {path.suffix or 'no'} suffix; readable are {', '.join(sorted(DATA_SUFFIXES))}."
        )
    if path.is_file() and not path.stat().st_size:
        raise DatasetError(f"DATASET_ID={reference}: the file is empty.")
    return path


def _neighbours(path: Path) -> str:
    folder = path.parent
    data = sorted(file.name for file in folder.iterdir() if file.suffix in DATA_SUFFIXES) if folder.is_dir() else []
    return f" The folder {folder.resolve()} has: {', '.join(data[:10])}." if data else ""


def _load(settings: DataSettings, source: Source, token: str | None) -> SourceRows:
    """All rows of the split."""
    import datasets  # 1.5 s, and not needed where the settings are wrong

    # It writes to standard error by itself: let its lines be formatted as all others are.
    library_log = logging.getLogger(datasets.__name__)
    library_log.handlers.clear()
    library_log.propagate = True
    split, config = settings.dataset_split, settings.dataset_config
    if source.local:
        # `datasets` knows a file again by its time of change; what counts here is its content.
        cache = Path(datasets.config.HF_DATASETS_CACHE) / "local" / source.commit.removeprefix("sha256:")[:16]
        arguments = _local_arguments(settings)
        return _prepared(arguments.pop("path"), config, split, arguments | {"cache_dir": str(cache)})
    cache = _cache(settings, source)
    arguments = {"revision": source.commit, "token": token, "cache_dir": str(cache)}
    try:
        loaded = _prepared(source.name, config, split, arguments)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise _refusal(source, str(error)) from error
    except (datasets.exceptions.DatasetGenerationError, OSError, ValueError):
        _check_downloads(source, cache)
        raise
    checked = cache / "checked"
    if not checked.exists():
        _check_downloads(source, cache)
        checked.touch()
    return loaded


def _prepared(path: str, config: str | None, split: str, arguments: dict[str, Any]) -> SourceRows:
    """What `load_dataset` does, but for its last step, which maps the converted files into memory."""
    import datasets

    builder = datasets.load_dataset_builder(path, config, **arguments)
    builder.download_and_prepare()
    reader, splits = datasets.arrow_reader.ArrowReader(builder.cache_dir, builder.info), builder.info.splits
    files = reader.get_file_instructions(builder.dataset_name, split, list(splits.values()))
    paths = tuple(Path(file["filename"]) for file in files)
    return SourceRows(splits[split].num_examples, builder.info.features.arrow_schema, paths)


def _check_downloads(source: Source, cache: Path) -> None:
    """Raises: ConnectionError where a file came damaged from the Hub; then it is removed, with what was made of it."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"datasets--{source.name.replace('/', '--')}" / "snapshots" / source.commit
    damaged = [path for path in folder.rglob("*") if path.is_file() and is_damaged(path)]
    for path in damaged:
        path.resolve().unlink()
        path.unlink()
    if damaged:
        shutil.rmtree(cache, ignore_errors=True)
        raise ConnectionError(f"{damaged[0].relative_to(folder)} came damaged from the Hub")


def _cache(settings: DataSettings, source: Source) -> Path:
    """A folder for this commit and configuration alone.

    Where the Hub fails, `datasets` takes whatever it finds in its cache for this name, at any commit, with a mere warning.
    """
    import datasets

    key = json.dumps([source.commit, settings.dataset_config])
    return Path(datasets.config.HF_DATASETS_CACHE) / "hub" / hashlib.sha256(key.encode()).hexdigest()[:16]


def _refusal(source: Source, reason: str) -> JobError:
    """Why the Hub has no such dataset for us, from the words of `datasets`: it drops the error that says so."""
    if "is a gated dataset" in reason:
        return AccessError(
            f"DATASET_ID={source.name}: is gated. Accept its terms on its page, with the account of HF_TOKEN; a fine-grained "
            f"token needs the right to read gated repositories too."
        )
    if reason.startswith("Revision"):
        return SettingsError([Problem("DATASET_REVISION", source.commit, f"{source.name} has no such commit")])
    message = (
        "no dataset of this name on the Hub, nor a file or folder here. Check the name and HF_ENDPOINT; if it is private, set "
        "HF_TOKEN to a token that may read it"
    )
    return SettingsError([Problem("DATASET_ID", source.name, message)])


def _local_arguments(settings: DataSettings) -> dict[str, Any]:
    path = check_files(settings.dataset_id)
    if path.is_dir():
        return {"path": str(path)}
    options = CSV_OPTIONS if path.suffix == ".csv" else {}
    return {"path": READERS[path.suffix], "data_files": {settings.dataset_split: glob.escape(str(path))}, **options}


@contextmanager
def _errors_named(settings: DataSettings) -> Iterator[None]:
    """Translate what `datasets` raises into this job's errors."""
    name = f"DATASET_ID={settings.dataset_id}"
    try:
        yield
    except JobError:
        raise
    except Exception as error:
        raise _translated(name, settings, error) from error


def _translated(name: str, settings: DataSettings, error: Exception) -> JobError:
    text = " ".join(str(error).split())
    cause = error.__cause__ or error
    if isinstance(cause, OSError) and cause.errno is not None and not isinstance(cause, FileNotFoundError):
        remedy = "Make room there, or set HF_HOME to a folder that can be written."
        return OutputError(f"{name}: cannot be written to the cache (HF_HOME): {cause}. {remedy}")
    if text.startswith("Unknown split"):
        return DatasetError(f"DATASET_SPLIT={settings.dataset_split}: {text}")
    if "BuilderConfig" in text or "Config name is missing" in text:
        return DatasetError(f"DATASET_CONFIG={settings.dataset_config or ''}: {text}")
    reason = " ".join(str(cause).split())
    if any(words in reason for words in NO_ROWS):
        return DatasetError(f"{name}: split {settings.dataset_split} has no rows. ({reason})")
    return DatasetError(f"{name}: cannot be read: {type(cause).__name__}: {reason}. Mend it, or give another DATASET_ID.")


def _check_columns(settings: DataSettings, schema: pa.Schema) -> None:
    columns = f"The columns are: {', '.join(schema.names)}."
    for name in settings.drop_columns:
        if name not in schema.names:
            raise DatasetError(f"DROP_COLUMNS={name}: no such column. {columns}")


def check_instruction_column(settings: DataSettings, schema: pa.Schema) -> None:
    """Raises: DatasetError where INSTRUCTION_COLUMN is missing or is not text."""
    name = settings.instruction_column
    if name not in schema.names:
        raise DatasetError(f"INSTRUCTION_COLUMN={name}: no such column. The columns are: {', '.join(schema.names)}.")
    kind = schema.field(name).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DatasetError(f"INSTRUCTION_COLUMN={name}: holds {kind}, not text. Choose a text column.")


def extended(schema: pa.Schema, kept: Sequence[str], added: pa.Schema) -> pa.Schema:
    """The schema of the results: the kept source columns with their features, then the added ones."""
    from datasets import Features

    features = Features.from_arrow_schema(schema)
    joined = {name: features[name] for name in kept} | dict(Features.from_arrow_schema(added))
    extended_schema: pa.Schema = Features(joined).arrow_schema
    return extended_schema


def dataset_info(schema: pa.Schema, split: str, files: Sequence[DataFile]) -> dict[str, Any]:
    """What a dataset card says of its data, so that a reader notices a lost file: features, rows and bytes."""
    from datasets import Features, SplitDict, SplitInfo
    from datasets.info import DatasetInfo, DatasetInfosDict
    from huggingface_hub import DatasetCardData

    rows, in_memory, on_disk = (sum(getattr(file, name) for file in files) for name in ("rows", "memory_bytes", "bytes"))
    splits = SplitDict({split: SplitInfo(split, in_memory, rows)})
    info = DatasetInfo(
        features=Features.from_arrow_schema(schema), splits=splits, download_size=on_disk, dataset_size=in_memory
    )
    card = DatasetCardData()
    DatasetInfosDict({"default": info}).to_dataset_card_data(card)
    described: dict[str, Any] = card.to_dict()["dataset_info"]  # type: ignore[no-untyped-call]
    return described


def count_rows(repo_id: str, commit: str, config: str, split: str, token: str | None, folder: Path) -> int:
    """The rows of a split on the Hub, as a reader gets them; `folder` takes what the reading leaves behind.

    One column is read, as every byte of the files is compared elsewhere. This is `load_dataset` without its last step, which
    maps the converted file into memory: rows are counted when they are converted.
    Raises: errors of `datasets`, which holds the files against the sizes that the card names.
    """
    import datasets

    options = {"revision": commit, "token": token, "cache_dir": str(folder), "columns": ["prompt_tokens"]}
    builder = datasets.load_dataset_builder(repo_id, config, **options)
    builder.download_and_prepare()
    rows: int = builder.info.splits[split].num_examples
    return rows
