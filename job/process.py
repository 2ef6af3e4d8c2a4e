"""What every entry point of this package does as a process, around its work.

Imports nothing slow: a signal that comes early must not be lost.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from job.shutdown import StopSignal, ignore_signals, listen

_STANDARD_ERROR = 2


def as_process(work: Callable[[StopSignal], int]) -> int:
    """Do the work, which says its last line and gives the exit code, while signals are listened to. Returns: the exit code."""
    _open_standard_streams()
    stop = StopSignal()
    listen(stop)
    code = work(stop)
    ignore_signals()  # the last line is said: the exit code is to be the one that it names
    if stop.signal:
        _end(code)
    return code


def _open_standard_streams() -> None:
    """Give this process those that it was started without (`2>&-`): a file of its own would get their number."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        os.set_inheritable(number, True)  # noqa: FBT003 (takes no names)
    os.close(number)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 (for as long as the process lives)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _end(code: int) -> None:
    """Without waiting for threads, such as those of a download, as the interpreter would."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)
