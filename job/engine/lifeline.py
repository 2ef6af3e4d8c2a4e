"""The engine's processes live exactly as long as their parent wants.

They end with it, however it ends: an orphan would keep the device and the memory. And they do not hear the signals that a
terminal or a shell sends to the whole process group: the parent lets rows in flight finish, then stops them itself. Where
memory runs out, the kernel is to end one of them rather than the parent, which can say then what happened.

vLLM starts its processes by fork or by spawn. A fork is caught by a hook of the interpreter; a spawned process reads the
logging configuration (logging.json) when it imports vLLM, and is led here by it.
"""

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_FIRST_TO_GO = "800"  # of 1000


def hold_in_forks() -> None:
    """Tie every process that this one forks from here on to it, and those that they fork."""
    parent = os.getpid()

    def remember() -> None:
        nonlocal parent
        parent = os.getpid()

    os.register_at_fork(before=remember, after_in_child=lambda: _bind_to(parent))


def hold_in_spawned() -> logging.Filter:
    """Tie this process to its parent, where it is one that multiprocessing started; a logging filter that lets all pass."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        _bind_to(parent.pid or 0)
    return logging.Filter()


def _bind_to(parent: int) -> None:
    os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was told
            os._exit(1)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")
