"""The Hub's cache on this machine, as this job leaves it: no damaged content, nothing that was read only to be compared."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from job.errors import OutputError
from job.hub.retry import MismatchError
from job.references import is_damaged

_DISK_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR, errno.EEXIST}
)


@contextmanager
def cache_errors() -> Iterator[None]:
    """Errors of the disk that the cache is on; those of the Hub are OSErrors too, and pass."""
    from huggingface_hub import constants

    with _disk_errors(constants.HF_HUB_CACHE, "Make room there, or set HF_HOME to a folder that can be written."):
        yield


@contextmanager
def reading_errors(folder: Path) -> Iterator[None]:
    """Errors of the disk that what is read only to be compared is written to; those of the Hub pass."""
    with _disk_errors(str(folder), "Make room there."):
        yield


@contextmanager
def _disk_errors(place: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS or getattr(error, "response", None) is not None:
            raise
        raise OutputError(f"{place}: {error.strerror}. {remedy}") from error


def check_content(name: str, path: Path) -> None:
    """Damaged weights would answer nonsense.

    Raises: MismatchError, the file removed; also where it is not there.
    """
    content = path.resolve()
    if not content.is_file():  # where the Hub fails at the wrong moment, the library takes a part of a snapshot for all of it
        raise MismatchError(f"{name} did not come from the Hub")
    try:
        damaged = is_damaged(path)
    except FileNotFoundError as error:  # another name of the same content was found damaged just now
        raise MismatchError(f"{name} did not come from the Hub") from error
    if damaged:
        content.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise MismatchError(f"{name} came damaged from the Hub")


def forget(commit: str) -> None:
    """Remove what the cache has of this commit alone."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        scan_cache_dir(constants.HF_HUB_CACHE).delete_revisions(commit).execute()
    except (CacheNotFound, OSError):  # what cannot be removed does no harm
        return
