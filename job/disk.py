"""Writing to disk: files that appear whole or not at all, and errors that say what to do."""

import errno
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from job.errors import OutputError
from job.files import open_file

# What file systems say that do not know the sync of a folder, or are read-only.
_NO_SYNC_OF_FOLDERS = frozenset({errno.EBADF, errno.EINVAL, errno.EOPNOTSUPP, errno.EROFS})


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Errors of the disk and of damaged files at `path`, as OutputError with a remedy."""
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(_sqlite_remedy(path, error)) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{_place(path, error)}: {reason}. Make room or choose another OUTPUT_DIR, then run the same command again."
        ) from error


def _place(path: Path, error: OSError) -> object:
    """What is in the way, where the error names it: a file below `path` that is there."""
    named = error.filename
    return named if isinstance(named, str) and Path(named).is_relative_to(path) and os.path.lexists(named) else path


def check_writable(folder: Path) -> None:
    """Make the folder, and a file in it for a moment.

    Raises: OutputError where that fails.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()


def check_no_links(top: Path, paths: Iterable[Path]) -> None:
    """Be sure that what is written to `paths`, which lie below `top`, stays there. `top` itself may be a link.

    Raises: OutputError where one of them, or a folder between, is a link.
    """
    for path in paths:
        for part in (path, *path.parents):
            if part == top:
                break
            if part.is_symlink():
                raise OutputError(
                    f"{part} is a link, and below OUTPUT_DIR the job writes to files and folders of its own only: "
                    f"find out who put it there, remove it, and run the same command again."
                )


def open_new(path: Path) -> IO[bytes]:
    """An empty file, to be written. What has its name is removed and not followed: it may lead to a file elsewhere."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, and put their names on the disk: without its name, all that is in a folder is lost.

    Also the names of folders that are there already: whoever made them may have been killed before it came to that.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for parent in folder.resolve().parents:
        sync_folder(parent)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk, as far as that can be done there."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return  # one far above, that may be passed through only
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC_OF_FOLDERS:
            raise
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Put the content of a file on the disk. Not of one that this process has locked: closing it gives a POSIX lock away."""
    with open_file(path) as file:
        os.fsync(file.fileno())


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a small file; a reader sees the old one or the new one, never a part."""
    content = content.encode() if isinstance(content, str) else content
    half_made = path.with_name(f"{path.name}.tmp")
    with open_new(half_made) as file:
        file.write(content)
    move_whole(half_made, path)


def move_whole(half_made: Path, path: Path) -> None:
    """Put a finished file in its place: its content on the disk first, its name after it."""
    sync_file(half_made)
    half_made.replace(path)
    sync_folder(path.parent)


def remove_whole(path: Path) -> None:
    """Remove a file, and put that on the disk before what follows."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def json_text(values: Mapping[str, object]) -> str:
    """JSON for people to read too."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _sqlite_remedy(path: Path, error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
        return f"{path}: the journal is damaged ({error}): move it away and run again."
    if code == sqlite3.SQLITE_FULL:
        return f"{path}: the disk is full: make room and run the same command again; rows in the journal are kept."
    return f"{path}: cannot be written: {error}. Check that OUTPUT_DIR is writable, then run the same command again."
