"""One process at a time works in a folder, on one machine and on several that share it.

Within one kernel a lock of the kernel decides: it is released when its process ends, however that happens. Not every shared
file system carries such locks from one machine to another, so the holder leaves a note beside it and renews that every few
seconds. A process that gets the lock but finds the note of another waits for a sign of life: it changes, or its holder is dead.
Only what changes while one looks counts, so clocks need not agree. A holder that was silent for too long, such as a suspended
machine, notices that the note is another's before it writes the next rows.
"""

import errno
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

import structlog

from job.errors import OutputError, RunLockedError
from job.files import open_file, parsed_json

BEAT_SECONDS = 5.0
SILENCE_SECONDS = 30.0  # of a holder that is taken for dead
LOCK, NOTE = "lock", "holder.json"
_POLL_SECONDS = 0.25
_NOTE_BYTES = 512  # always as many: a note is replaced in one write, and needs no room that it does not have
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})


log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Note:
    """Who holds a folder.

    holder: for people; kernel, device: where its lock is known, a kernel and one of its mounted file systems; token: of this
    holding alone; beat: how often it was renewed.
    """

    holder: str
    kernel: str
    device: int
    token: str
    beat: int = 0


def this_kernel() -> str:
    """What only processes of this kernel say of themselves, in whichever container."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return secrets.token_hex(8)  # as if each process were on a machine of its own


class RunLock:
    """A folder that is this process's alone, from `take` to `release`."""

    def __init__(
        self,
        folder: Path,
        *,
        kernel: str | None = None,
        beat_seconds: float = BEAT_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """kernel: what to be taken for, this one where None."""
        self._folder = folder
        self._path = folder / NOTE
        self._kernel = kernel or this_kernel()
        self._token = secrets.token_hex(8)
        self._beat_seconds, self._silence_seconds = beat_seconds, silence_seconds
        self._sleep = sleep
        self._clock = clock
        self._released = threading.Event()

    def take(self) -> None:
        """Make the folder this process's. Waits where its holder may be on another machine, silence_seconds at most.

        Raises: RunLockedError naming the holder; OutputError where the file system has no locks; OSError.
        """
        self._file = self._kernel_lock()
        try:
            device = os.fstat(self._file.fileno()).st_dev
            self._wait_for_a_sign_of_life(device)
            note = Note(f"process {os.getpid()} on {socket.gethostname()}", self._kernel, device, self._token)
            self._write(note)
            self.check()  # another one may have waited as long
        except BaseException:
            self._file.close()
            raise
        self._thread = threading.Thread(target=self._keep_alive, args=(note,), name="run-lock", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Let the next one have it without waiting."""
        self._released.set()
        self._thread.join(self._silence_seconds)  # else it might write the note again
        with suppress(OSError):  # then the next one waits
            if self._is_ours():
                self._path.unlink()
        self._file.close()

    def check(self) -> None:
        """Whether the folder still is this process's.

        Raises: RunLockedError where another one took this process for dead; OutputError where the folder is gone; OSError.
        """
        if self._is_ours():
            return
        content = self._content()
        if content is None:
            raise OutputError(f"{self._path} is gone, although this process works there. Leave the folder alone and run again.")
        raise _locked_by(self._folder, _parsed(content), "It took this process, which was silent for too long, for dead.")

    def _kernel_lock(self) -> IO[str]:
        """An open file with this process's exclusive lock on it.

        A POSIX lock: children do not inherit it, so an engine that outlives its parent does not hold the run.
        """
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.fdopen(os.open(self._folder / LOCK, flags, 0o666), "a+", encoding="utf-8")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if error.errno in _NO_LOCKS:
                raise OutputError(f"{self._folder} is on a file system without locks: choose another OUTPUT_DIR.") from error
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            raise _locked_by(self._folder, _parsed(self._content() or b"")) from error
        return file

    def _wait_for_a_sign_of_life(self, device: int) -> None:
        """Be sure that whoever left a note is dead. Raises: RunLockedError where it is not."""
        content = self._content()
        if content is None:
            return
        note = _parsed(content)
        if note and (note.kernel, note.device) == (self._kernel, device):
            return  # it would have the kernel's lock
        seconds = self._silence_seconds
        log.warning("holder_awaited", holder=note.holder if note else None, folder=str(self._folder), seconds=seconds)
        until = self._clock() + seconds
        while self._clock() < until:
            self._sleep(_POLL_SECONDS)
            found = self._content()
            if found is None:
                return  # it ended in order
            if found != content:
                raise _locked_by(self._folder, _parsed(found))

    def _keep_alive(self, note: Note) -> None:
        while not self._released.wait(self._beat_seconds):
            note = replace(note, beat=note.beat + 1)
            with suppress(OSError, MemoryError):  # a disk that fails is met by whoever writes rows; a template is bounded
                if not self._is_ours():
                    return
                self._write(note)

    def _is_ours(self) -> bool:
        note = _parsed(self._content() or b"")
        return note is not None and note.token == self._token

    def _content(self) -> bytes | None:
        """The note as it is, opened anew: a shared file system then asks for what others wrote."""
        try:
            with open_file(self._path) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def _write(self, note: Note) -> None:
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            os.pwrite(file, json.dumps(asdict(note)).encode().ljust(_NOTE_BYTES), 0)
            os.ftruncate(file, _NOTE_BYTES)  # what was there may have been longer
        finally:
            os.close(file)


def _parsed(content: bytes) -> Note | None:
    """The note, None where it is none: it was being written, or is another program's."""
    try:
        return Note(**parsed_json(content))
    except (TypeError, ValueError):
        return None


def _locked_by(folder: Path, note: Note | None, *why: str) -> RunLockedError:
    holder = note.holder if note else "another process"
    return RunLockedError(" ".join([f"{folder} is being worked on by {holder}: wait for it to end, then run again.", *why]))
