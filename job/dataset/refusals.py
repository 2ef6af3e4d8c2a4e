"""What goes wrong with a dataset, in this job's own errors."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from job.errors import DatasetError, JobError, OutputError, Problem, SettingsError
from job.hub_refusals import gated, missing
from job.records import Source
from job.settings import DataSettings

# What `datasets` and its readers say of files without a row: none of it tells a user so.
NO_ROWS = ("corresponds to no data", "BatchSize must be greater than 0", "No columns to parse from file", "any data files")


@contextmanager
def errors_named(settings: DataSettings) -> Iterator[None]:
    """Translate what `datasets` raises into this job's errors."""
    name = f"DATASET_ID={settings.dataset_id}"
    try:
        yield
    except JobError:
        raise
    except Exception as error:
        raise _translated(name, settings, error) from error


@contextmanager
def no_room_named() -> Iterator[None]:
    """`datasets` says in words alone that the disk has no room for what it is about to write."""
    try:
        yield
    except OSError as error:
        if error.errno is None and str(error).startswith("Not enough disk space"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None  # has no cause: it is the cause
        raise


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


def refusal(source: Source, reason: str) -> JobError:
    """Why the Hub has no such dataset for us, from the words of `datasets`: it drops the error that says so."""
    if "is a gated dataset" in reason:
        return gated("dataset", source.name)
    if reason.startswith("Revision"):
        return SettingsError([Problem("DATASET_REVISION", source.commit, f"{source.name} has no such commit")])
    return missing("dataset", source.name)
