"""A Hub that fails for a while: publication ends with one commit, or says that it did not and does it next time."""

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import Call, CorruptDownload, Fault, LoseAnswer, Reset, Status, Truncate
from tests.integration.publishing import COMMIT, INFO, PREFLIGHT, PREUPLOAD, REPO, Scene, retries
from tests.support import results_folder, running

pytestmark = pytest.mark.slow
HTML = Status(502, {"Content-Type": "text/html"}, "<html><body>502 Bad Gateway</body></html>")
LOCKED = Status(409, body='{"error": "Another commit operation is in progress"}')
OBJECT = r"/objects/"

PASSING: dict[str, tuple[Fault, str | None, str, int, int, list[int | None]]] = {
    # fault, method, path, times, skip, statuses that publication is tried again for
    "503 twice on the commit": (Status(503), "POST", COMMIT, 2, 0, [503, 503]),
    "503 on preupload, which the library tries again": (Status(503), "POST", PREUPLOAD, 1, 0, []),
    "503 on the look at the repository": (Status(503), "GET", INFO, 1, 4, [503]),
    "409 while another commit holds the lock": (LOCKED, "POST", COMMIT, 1, 0, [409]),
    "a page of a gateway for the commit": (HTML, "POST", COMMIT, 1, 0, [502]),
    "a page of a gateway for the check of the card": (HTML, "POST", "validate-yaml", 1, 0, [None]),
    "a reset in the upload": (Reset(unread=True), "PUT", "/uploads/", 1, 0, []),
    "a reset in the commit": (Reset(unread=True), "POST", COMMIT, 1, 0, [None]),
    "a reset after the commit was sent": (Reset(), "POST", COMMIT, 1, 0, [None]),
    "the lost answer of a commit": (LoseAnswer(), "POST", COMMIT, 1, 0, [None]),
    "a download that is cut short": (Truncate(100), "GET", OBJECT, 1, 0, [None]),
    "a damaged download": (CorruptDownload(), "GET", OBJECT, 1, 0, [None]),
}  # fmt: skip


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_ends_in_one_verified_commit(name: str, scene: Scene) -> None:
    fault, method, path, times, skip, statuses = PASSING[name]
    rule = scene.hub.fail(fault, method=method, path=path, times=times, skip=skip)
    outcome = scene.run()
    assert rule.hits == times
    scene.check_published(outcome)
    assert retries(outcome) == statuses


def test_the_wait_that_the_hub_asks_for_is_kept(scene: Scene) -> None:
    scene.hub.fail(Status(429, {"Retry-After": "2"}), method="POST", path=COMMIT)
    outcome = scene.run()
    scene.check_published(outcome)
    (retry,), (published,) = outcome.of("upload_retry"), outcome.of("published")
    assert (retry["status"], retry["wait_seconds"]) == (429, 2)
    assert seconds_between(retry, published) >= 2


@pytest.mark.parametrize(("path", "uploads"), [(COMMIT, True), (PREUPLOAD, False)], ids=["commit", "preupload"])
def test_an_absurd_wait_does_not_outlast_the_deadline(path: str, uploads: bool, scene: Scene) -> None:
    scene.hub.fail(Status(429, {"Retry-After": "3600"}), method="POST", path=path, times=None)
    outcome = scene.run(HUB_DEADLINE_SECONDS=2)
    scene.check_held_back(outcome, 69, uploads=uploads)
    assert "429" in outcome.last["message"]
    assert seconds_between(outcome.of("results_written")[0], outcome.last) < 5
    scene.hub.recover()
    scene.check_published(scene.run(), generated=0)


def lose_and_follow(scene: Scene, files: Mapping[str, str | bytes | None], title: str) -> None:
    """Lose the answer of our commit, and commit this on top of it before we look again."""
    follow = Call(lambda _: scene.repo().commit(files, title))
    scene.hub.fail(Call(lambda _: scene.hub.fail(follow, method="GET")), method="POST", path=COMMIT)
    scene.hub.fail(LoseAnswer(), method="POST", path=COMMIT)


def test_a_commit_on_top_of_ours_does_not_hide_it(scene: Scene) -> None:
    """The answer is lost, and before we look again somebody else commits."""
    lose_and_follow(scene, {"notes.txt": "n"}, "Add notes")
    scene.check_published(scene.run())
    assert [commit.title for commit in scene.repo().history()][::2] == ["Add notes", "initial commit"]
    assert len(scene.hub.seen("POST", COMMIT)) == 1


def test_a_commit_on_top_of_ours_is_not_undone(scene: Scene) -> None:
    """The answer is lost, and somebody changes what we published: it was published, and what came after is theirs to say."""
    theirs: dict[str, str | bytes | None] = {"run.json": None, "README.md": "# Ours now\n"}
    lose_and_follow(scene, theirs, "Take over")
    outcome = scene.run()
    (ours,) = scene.commits()
    assert (outcome.code, outcome.last["commit"]) == (0, ours.oid), outcome.last
    assert scene.repo().history()[0].title == "Take over"
    assert scene.repo().files()["README.md"] == b"# Ours now\n"


def test_a_commit_that_comes_in_between_is_built_upon(scene: Scene) -> None:
    scene.hub.fail(Call(lambda _: scene.repo().commit({"notes.txt": "n"}, "Add notes")), method="POST", path=PREUPLOAD)
    outcome = scene.run()
    scene.check_published(outcome)
    assert retries(outcome) == [412]
    assert [commit.title for commit in scene.repo().history()][1:] == ["Add notes", "initial commit"]
    assert scene.repo().files()["notes.txt"] == b"n"


@pytest.mark.parametrize("fault", [Status(503), Reset()], ids=["answers 503", "resets connections"])
def test_a_hub_that_is_down_past_the_deadline_gets_the_results_next_time(fault: Fault, scene: Scene) -> None:
    scene.hub.fail(fault, times=None, skip=PREFLIGHT)
    outcome = scene.run(HUB_DEADLINE_SECONDS=3)
    scene.check_held_back(outcome, 69)
    assert outcome.of("upload_retry")
    assert seconds_between(outcome.of("results_written")[0], outcome.last) < 5
    scene.hub.recover()
    scene.check_published(scene.run(), generated=0)


@pytest.mark.parametrize("path", [COMMIT, PREUPLOAD], ids=["the commit", "a request that the library tries again by itself"])
def test_a_signal_ends_the_wait_before(path: str, scene: Scene) -> None:
    scene.hub.fail(Status(429, {"Retry-After": "60"}), method="POST", path=path, times=None)
    with running(scene.folder / "log", scene.variables) as job:
        job.event("upload_retry")
        job.process.send_signal(signal.SIGTERM)
        at = time.monotonic()
        stopped = job.end()
    assert time.monotonic() - at < 2
    scene.check_secret(stopped)
    scene.check_held_back(stopped, 75, uploads=path == COMMIT)
    assert "stopped by SIGTERM" in stopped.last["message"]
    scene.hub.recover()
    scene.check_published(scene.run(), generated=0)


def seconds_between(first: Any, second: Any) -> float:
    """By the timestamps of two events."""
    at = [datetime.fromisoformat(event["timestamp"]) for event in (first, second)]
    return (at[1] - at[0]).total_seconds()


def test_what_a_killed_reading_left_is_removed(scene: Scene) -> None:
    with running(scene.folder / "killed", scene.variables) as job:
        scene.hub.fail(Call(lambda _: job.process.kill()), method="GET", path=OBJECT)
        job.process.wait(60)
    folder = results_folder(scene.output)
    assert list(folder.glob(".reading-*"))
    scene.check_published(scene.run(), generated=0)
    assert not list(folder.glob(".*"))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, small enough to be filled."""
    disk = tmp_path / "small"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def filling(disk: Path) -> Call:
    def fill(_: object) -> None:
        with suppress(OSError), (disk / "full").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    return Call(fill)


def test_a_disk_that_is_full_while_reading_back_is_named(scene: Scene, small: Path) -> None:
    assert scene.run(OUTPUT_DIR=small / "results", PUSH_TO_HUB="false").code == 0
    scene.hub.fail(filling(small), method="GET", path=OBJECT)
    full = scene.run(OUTPUT_DIR=small / "results")
    folder = results_folder(small / "results")
    assert full.code == 73
    assert full.last["message"].startswith(f"{folder}: No space left on device. Make room there. All answers are safe")
    (small / "full").unlink()
    assert scene.run(OUTPUT_DIR=small / "results").code == 0
    assert len(scene.commits()) == 1


def test_a_disk_that_is_full_while_the_card_is_read_is_named(scene: Scene, small: Path) -> None:
    scene.hub.add_repo("dataset", REPO, files={"README.md": "Words.\n" * 200_000}, private=True)
    full = scene.run(TMPDIR=small)
    assert full.code == 73
    assert full.last["message"].startswith(f"{small}: No space left on device. Make room there.")
    assert not full.of("preflight_passed")
    assert scene.commits() == []
