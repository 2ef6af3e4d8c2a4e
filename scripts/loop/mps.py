"""NVIDIA's Multi-Process Service (MPS): kernels of several processes side by side on a GPU, where they would take turns.

A step of a model that answers few rows reads its weights, and in between most of the GPU is idle: models side by side fill each
other's gaps. How much that is says benchmarks/RESULTS.md, section models. Its daemon is a plain process of the user, which ends
with the loop, and no setting of the GPU is changed.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.loop.children import bound_to_this
from scripts.loop.gpus import Slot

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
DEFAULT_PIPES = Path("/tmp/nvidia-mps")  # noqa: S108 (where CUDA looks for a service by itself)
_SHORT = "/tmp"  # noqa: S108 (a private folder is made in it: its sockets must not have long names)
_PATIENCE_SECONDS = 15.0
_TICK_SECONDS = 0.05
_SHOWN = 300  # characters of what it said


def wanted(slots: Sequence[Slot], environ: Mapping[str, str], *, containers: bool) -> bool:
    """Whether models share a GPU, as processes, and neither is MPS=off nor is there a service that somebody else set up."""
    chosen = environ.get("MPS", "auto") != "off" and environ.get("ENGINE") != "echo"
    theirs = PIPES in environ or (DEFAULT_PIPES / "control").exists()
    return chosen and not theirs and not containers and any(slot.shares_gpus for slot in slots)


@contextmanager
def service(environ: Mapping[str, str], say: Callable[[str], object], control: str = CONTROL) -> Iterator[Mapping[str, str]]:
    """The variables that have CUDA use a service of its own while the block runs; none where this machine has no MPS.

    say: is told why there is none where it does not start.
    """
    if not shutil.which(control):
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="mps-", dir=_SHORT, ignore_cleanup_errors=True) as folder:
        variables = {PIPES: folder, LOGS: folder}
        # Its clients name GPUs by numbers that count all of them.
        own = {name: value for name, value in environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        own |= {**variables, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        words = Path(folder) / "daemon"
        with words.open("wb") as log:
            daemon = subprocess.Popen(
                bound_to_this([control, "-f"], signal.SIGTERM),
                env=own,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        try:
            if _listens(daemon, Path(folder)):
                yield variables
            else:
                said = " ".join(words.read_text(errors="replace").split())[:_SHOWN]
                say(f"MPS did not start, so models take turns on a GPU{': ' if said else ''}{said}")
                yield {}
        finally:
            _end(daemon, control, own)


def _listens(daemon: "subprocess.Popen[bytes]", folder: Path) -> bool:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while daemon.poll() is None and time.monotonic() < deadline:
        if (folder / "control").exists():
            return True
        time.sleep(_TICK_SECONDS)
    return False


def _end(daemon: "subprocess.Popen[bytes]", control: str, environ: Mapping[str, str]) -> None:
    """In order, with the servers that it started; by force where it does not listen."""
    if daemon.poll() is not None:
        return
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run([control], env=environ, input=b"quit\n", capture_output=True, timeout=_PATIENCE_SECONDS, check=False)
    try:
        daemon.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()
