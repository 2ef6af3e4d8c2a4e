"""A line on a terminal that is written anew all the time, beside log lines that stay."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

_BEGINNING_AND_NOTHING_AFTER = "\r\x1b[K"


class StatusLine:
    """The line where the cursor is. It leaves nothing behind."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, text: str) -> None:
        """text: shorter than a terminal is wide. The cursor goes back to its beginning: a line of another process that comes
        in between then begins there too."""
        self._write(f"{_BEGINNING_AND_NOTHING_AFTER}{text}\r")

    def clear(self) -> None:
        self._write(_BEGINNING_AND_NOTHING_AFTER)

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the terminal may be gone; the work goes on
            self._stream.write(text)
            self._stream.flush()


@contextmanager
def making_way(clear: Callable[[], object]) -> Iterator[None]:
    """Call `clear` before each log line of this process while the block runs, and at its end."""

    def before(_record: logging.LogRecord) -> bool:
        clear()
        return True

    handlers = logging.getLogger().handlers[:]
    for handler in handlers:
        handler.addFilter(before)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(before)
        clear()
