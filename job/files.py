"""Reading files that others may have put there: what is no file is refused, where a plain `open` would wait for ever."""

import errno
import json
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any


def open_file(path: Path) -> BufferedReader:
    """A file, or one that a link leads to, for reading in binary. Raises: OSError, for a pipe, device or socket too."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait for its writer
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Raises: OSError; UnicodeDecodeError."""
    with open_file(path) as file:
        return file.read().decode(encoding)


def read_json(path: Path) -> Any:
    """Raises: OSError; ValueError."""
    return parsed_json(read_text(path))


def parsed_json(text: str | bytes) -> Any:
    """Raises: ValueError, also where it is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
