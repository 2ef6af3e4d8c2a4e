"""A folder for all temporary files of this process and of the engine's, gone when the last of them is, however they end.

vLLM leaves its sockets behind when it is killed. A shell that only waits for the end of a pipe outlives everyone who holds the
pipe's other end, and then removes the folder.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from job.errors import OutputError

_PREFIX = "job-scratch-"
_SOCKET_PATH = 107  # bytes that the kernel allows
_SOCKET_NAME = len(f"/{_PREFIX}12345678/") + len("123e4567-e89b-12d3-a456-426614174000")
_SHORT = "/tmp"  # noqa: S108 (a private folder is made in it)
_REMOVE_AT_THE_END = 'trap "" HUP INT TERM; cat >/dev/null; rm -rf -- "$@"'
_SECONDS = 5


@contextmanager
def scratch_folder(environ: MutableMapping[str, str]) -> Iterator[Path]:
    """The folder, as TMPDIR of this process and of those that it starts. Where its name is too long for sockets, vLLM's have
    one of their own.

    Raises: OutputError where no temporary file can be made.
    """
    try:
        base = tempfile.gettempdir()
        folders = [_folder(base)]
        if len(os.fsencode(base)) + _SOCKET_NAME > _SOCKET_PATH and "VLLM_RPC_BASE_PATH" not in environ:
            folders.append(_folder(_SHORT))
    except OSError as error:
        raise OutputError(f"no temporary file can be made: {error.strerror}. Set TMPDIR to a folder with room.") from error
    # Compiled kernels are worth keeping: where torch would have put them.
    environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{base}/torchinductor_{os.getuid()}")
    names = ("TMPDIR", "VLLM_RPC_BASE_PATH")[: len(folders)]
    with _removed_at_the_end(folders), _set(environ, dict(zip(names, map(str, folders), strict=True))):
        yield folders[0]


def temporary_folder() -> Path:
    """Where temporary files are, by the name that a person knows: TMPDIR as it was set, without the folder of our own in it."""
    folder = Path(tempfile.gettempdir())
    return folder.parent if folder.name.startswith(_PREFIX) else folder


def _folder(base: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))


@contextmanager
def _set(environ: MutableMapping[str, str], values: Mapping[str, str]) -> Iterator[None]:
    """Set variables, and what Python keeps of TMPDIR, until the block ends."""
    before, tempdir = {name: environ[name] for name in values if name in environ}, tempfile.tempdir
    environ.update(values)
    tempfile.tempdir = values["TMPDIR"]
    try:
        yield
    finally:
        tempfile.tempdir = tempdir
        for name in values:
            del environ[name]
        environ.update(before)


@contextmanager
def _removed_at_the_end(folders: Sequence[Path]) -> Iterator[None]:
    command = ["/bin/sh", "-c", _REMOVE_AT_THE_END, "sh", *map(str, folders)]
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
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError, subprocess.TimeoutExpired):
            shell.communicate(timeout=_SECONDS)
