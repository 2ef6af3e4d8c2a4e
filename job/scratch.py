"""A folder for all temporary files of this process and of the engine's, gone when the last of them is, however they end.

vLLM leaves its sockets behind when it is killed. A shell that only waits for the end of a pipe outlives everyone who holds the
pipe's other end, and then removes the folder.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path

from job.errors import OutputError

_PREFIX = "job-"
_SOCKET_PATH = 107  # bytes that the kernel allows
_SOCKET_NAME = len("/job-12345678/") + len("123e4567-e89b-12d3-a456-426614174000")
_SHORT = "/tmp"  # noqa: S108 (a private folder is made in it)
_REMOVE_AT_THE_END = 'cat >/dev/null; rm -rf -- "$1"'
_SECONDS = 5


@contextmanager
def scratch_folder(environ: MutableMapping[str, str]) -> Iterator[Path]:
    """The folder, as TMPDIR of this process and of those that it starts.

    Raises: OutputError where no temporary file can be made.
    """
    previous = tempfile.tempdir, environ.get("TMPDIR")
    try:
        base = tempfile.gettempdir()
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base if len(base) + _SOCKET_NAME <= _SOCKET_PATH else _SHORT))
    except OSError as error:
        raise OutputError(f"no temporary file can be made: {error.strerror}. Set TMPDIR to a folder with room.") from error
    # Compiled kernels are worth keeping: where torch would have put them.
    environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{base}/torchinductor_{os.getuid()}")
    tempfile.tempdir = environ["TMPDIR"] = str(folder)
    try:
        with _removed_at_the_end(folder):
            yield folder
    finally:
        tempfile.tempdir = previous[0]
        environ.pop("TMPDIR")
        if previous[1] is not None:
            environ["TMPDIR"] = previous[1]


@contextmanager
def _removed_at_the_end(folder: Path) -> Iterator[None]:
    command = ["/bin/sh", "-c", _REMOVE_AT_THE_END, "sh", str(folder)]
    shell = subprocess.Popen(  # noqa: S603 (no text of others in it)
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,  # what ends the process group must not end this too
    )
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError, subprocess.TimeoutExpired):
            shell.communicate(timeout=_SECONDS)
