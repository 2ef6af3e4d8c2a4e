"""The lock within one kernel, and the note that decides where the kernel's locks do not reach.

A machine of its own is played by another file in the place of the kernel's lock, and another name for the kernel.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from job.errors import OutputError, RunLockedError
from job.run_lock import BEAT_SECONDS, NOTE, SILENCE_SECONDS, RunLock

ME = f"process {os.getpid()} on {os.uname().nodename}"
ELSEWHERE = {"holder": "process 7 on node-b", "kernel": "another", "device": 1, "token": "t", "beat": 3}


class FakeTime:
    """Time that passes only while somebody sleeps; `meanwhile` is what others do then."""

    def __init__(self, meanwhile: Callable[[float], None] = lambda now: None) -> None:
        self.now = 0.0
        self._meanwhile = meanwhile

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self._meanwhile(self.now)

    def clock(self) -> float:
        return self.now


def leave(folder: Path, **changed: object) -> None:
    (folder / NOTE).write_text(json.dumps(ELSEWHERE | changed))


def lock_of(folder: Path, time: FakeTime | None = None, kernel: str = "here") -> RunLock:
    time = time or FakeTime()
    return RunLock(folder, kernel=kernel, sleep=time.sleep, clock=time.clock)


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[RunLock]:
    lock = lock_of(tmp_path)
    lock.take()
    yield lock
    lock.release()


def test_the_note_names_the_holder_and_goes_with_it(tmp_path: Path) -> None:
    lock = lock_of(tmp_path)
    lock.take()
    note = json.loads((tmp_path / NOTE).read_text())
    assert (note["holder"], note["kernel"], note["device"]) == (ME, "here", tmp_path.stat().st_dev)
    lock.check()
    lock.release()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_dead_holder_of_this_kernel_is_not_waited_for(tmp_path: Path) -> None:
    leave(tmp_path, kernel="here", device=tmp_path.stat().st_dev)
    time = FakeTime()
    lock = lock_of(tmp_path, time)
    lock.take()
    assert time.now == 0
    lock.check()
    lock.release()


@pytest.mark.parametrize("other", [{"kernel": "another"}, {"kernel": "here", "device": 0}], ids=["machine", "mount"])
def test_a_silent_holder_elsewhere_is_taken_for_dead(other: dict[str, object], tmp_path: Path) -> None:
    leave(tmp_path, **other)
    time = FakeTime()
    lock = lock_of(tmp_path, time)
    with capture_logs() as logs:
        lock.take()
    assert SILENCE_SECONDS <= time.now < SILENCE_SECONDS + 1
    assert SILENCE_SECONDS >= 5 * BEAT_SECONDS
    assert [(line["event"], line["holder"]) for line in logs] == [("holder_awaited", "process 7 on node-b")]
    lock.release()


def test_a_holder_elsewhere_that_gives_a_sign_of_life_keeps_the_folder(tmp_path: Path) -> None:
    time = FakeTime(lambda now: leave(tmp_path, beat=4) if now > 4 else None)
    leave(tmp_path)
    with pytest.raises(RunLockedError, match="is being worked on by process 7 on node-b: wait for it to end, then run again"):
        lock_of(tmp_path, time).take()
    assert time.now < 5
    leave(tmp_path)
    lock = lock_of(tmp_path)
    lock.take()  # the kernel's lock was given back
    lock.release()


def test_a_holder_elsewhere_that_ends_in_order_is_not_waited_for_any_longer(tmp_path: Path) -> None:
    time = FakeTime(lambda now: (tmp_path / NOTE).unlink(missing_ok=True) if now > 4 else None)
    leave(tmp_path)
    lock = lock_of(tmp_path, time)
    lock.take()
    assert time.now < 5
    lock.release()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"{}", b"\xff" * 40, b"[" * 100_000])
def test_a_note_that_cannot_be_read_is_waited_for(content: bytes, tmp_path: Path) -> None:
    (tmp_path / NOTE).write_bytes(content)
    time = FakeTime()
    lock = lock_of(tmp_path, time)
    lock.take()
    assert time.now >= SILENCE_SECONDS
    lock.release()


def test_the_note_is_renewed_in_its_place(tmp_path: Path) -> None:
    lock = RunLock(tmp_path, beat_seconds=0.01)
    lock.take()
    path = tmp_path / NOTE
    size, inode = path.stat().st_size, path.stat().st_ino
    wait = threading.Event()
    for _ in range(500):
        if json.loads(path.read_text())["beat"] > 2:
            break
        wait.wait(0.01)
    assert json.loads(path.read_text())["beat"] > 2
    assert (path.stat().st_size, path.stat().st_ino) == (size, inode)
    lock.release()
    assert not path.exists()


def test_who_was_silent_for_too_long_notices_that_the_folder_is_anothers(tmp_path: Path) -> None:
    lock = RunLock(tmp_path, beat_seconds=0.01)
    lock.take()
    leave(tmp_path)
    threading.Event().wait(0.1)  # it must not write over the other's note
    with pytest.raises(RunLockedError, match=r"by process 7 on node-b: .* It took this process, .* for dead"):
        lock.check()
    lock.release()
    assert json.loads((tmp_path / NOTE).read_text()) == ELSEWHERE


def test_a_folder_that_was_removed_is_noticed(taken: RunLock, tmp_path: Path) -> None:
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(OutputError, match=r"holder\.json is gone, although this process works there"):
        taken.check()


def test_a_link_in_the_place_of_the_note_is_not_followed(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "precious"
    folder.mkdir()
    elsewhere.write_text("precious")
    (folder / NOTE).symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic links"):
        lock_of(folder).take()
    assert elsewhere.read_text() == "precious"


def test_a_folder_that_was_given_back_has_no_note(tmp_path: Path) -> None:
    """However the note is being renewed at that moment: the next machine would wait for nobody."""
    for _ in range(300):
        lock = RunLock(tmp_path, beat_seconds=0.0005)
        lock.take()
        time.sleep(0.001)
        lock.release()
        assert not (tmp_path / "holder.json").exists()
