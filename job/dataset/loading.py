"""Loads a split, from the Hub or from local files, at a known commit."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from job.dataset.columns import check_contents, check_dropped_columns
from job.dataset.files import check_json, local_arguments
from job.dataset.refusals import errors_named, no_room_named, refusal
from job.dataset.rows import SourceRows
from job.errors import DatasetError
from job.records import Source
from job.references import is_damaged
from job.settings import DataSettings

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
    with errors_named(settings):
        loaded: SourceRows = read(lambda: _load(settings, source, token))
    schema = loaded.schema
    check_dropped_columns(settings, schema)
    rows = min(loaded.rows, settings.max_rows or loaded.rows)
    if not rows:
        raise DatasetError(f"DATASET_ID={settings.dataset_id}: split {settings.dataset_split} has no rows.")
    asked_for = replace(loaded, rows=rows)
    check_contents(settings, asked_for)
    return asked_for


def _load(settings: DataSettings, source: Source, token: str | None) -> SourceRows:
    """All rows of the split."""
    import datasets  # 1.5 s, and not needed where the settings are wrong

    # It writes to standard error by itself: let its lines be formatted as all others are.
    library_log = logging.getLogger(datasets.__name__)
    library_log.handlers.clear()
    library_log.propagate = True
    split, config = settings.dataset_split, settings.dataset_config
    if source.local:
        check_json(Path(source.name))
        # `datasets` knows a file again by its time of change; what counts here is its content.
        cache = Path(datasets.config.HF_DATASETS_CACHE) / "local" / source.commit.removeprefix("sha256:")[:16]
        arguments = local_arguments(settings)
        return _prepared(arguments.pop("path"), config, split, arguments | {"cache_dir": str(cache)})
    cache = _cache(settings, source)
    arguments = {"revision": source.commit, "token": token, "cache_dir": str(cache)}
    try:
        loaded = _prepared(source.name, config, split, arguments)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise refusal(source, str(error)) from error
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
    with no_room_named():
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
