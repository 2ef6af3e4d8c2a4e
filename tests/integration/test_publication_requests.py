"""Publication with a fault at each request in turn, and what would take minutes: in this process, without real waits."""

import time
from pathlib import Path

import pytest

from job.errors import AccessError, HubUnavailableError
from tests.hub_server import (
    CorruptDownload,
    CorruptUpload,
    Delay,
    Fault,
    HubServer,
    LoseAnswer,
    Reset,
    Status,
)
from tests.hub_server.operations import DATA_ARGUMENT
from tests.integration.publishing import COMMIT, READER, REPO, ROWS, TOKEN, Scene, run_here
from tests.support import results_folder

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(DATA_ARGUMENT)]
PAGE = {"Content-Type": "text/html"}
ONCE: dict[str, Fault] = {
    "503": Status(503),
    "lost answer": LoseAnswer(),
    "damaged answer": CorruptDownload(),
    "page for an answer": Status(200, PAGE, "<html>log in to this network</html>"),
}
ELSEWHERE: dict[str, tuple[Fault, str, str]] = {
    "an upload address that expired": (Status(403), "PUT", "/uploads/"),
    "an upload that nobody kept": (Status(200), "PUT", "/uploads/"),
    "a commit that is not shown yet": (Status(404, {"X-Error-Code": "RevisionNotFound"}), "GET", r"/revision/.*blobs"),
    "a gateway that stays": (Status(504), "POST", COMMIT),
}


def loaded_once(scene: Scene, rows: int = ROWS) -> None:
    assert len(scene.commits()) == 1
    folder, files = results_folder(scene.output), scene.repo().files()
    assert files["run.json"] == (folder / "run.json").read_bytes()
    assert files["data/test-00000-of-00001.parquet"] == (folder / "data/test-00000-of-00001.parquet").read_bytes()
    assert len(scene.rows()) == rows


@pytest.mark.parametrize("name", ONCE)
def test_a_fault_at_any_request_ends_in_one_verified_commit(name: str, tmp_path: Path) -> None:
    """By one run for each request that there is; those for the dataset are struck by one of the faults."""
    struck = 0
    for skip in range(100):
        with HubServer() as hub:
            scene = scene_at(hub, tmp_path / str(skip), local=name != "503")
            rule = hub.fail(ONCE[name], skip=skip)
            summary = run_here(scene, [])
            hub.recover()
            assert len(scene.commits()) == 1, hub.requests[skip]
            assert summary.published
            assert summary.published.commit == scene.commits()[0].oid, hub.requests[skip]
            assert summary.generated_rows == ROWS
            if not rule.hits:
                loaded_once(scene)
                break
            struck += 1
    assert struck >= 20


def scene_at(hub: HubServer, folder: Path, *, local: bool) -> Scene:
    hub.add_user("ana", token=TOKEN)
    hub.add_token("ana", READER, "read")
    folder.mkdir()
    scene = Scene(hub, folder)
    if not local:
        hub.add_repo("dataset", "ana/rows", files={"test.jsonl": scene.data.read_text()}, private=True)
        scene.variables["DATASET_ID"] = "ana/rows"
    return scene


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("times", [1, 3])
def test_a_fault_that_passes_ends_in_one_commit(name: str, times: int, scene: Scene) -> None:
    fault, method, path = ELSEWHERE[name]
    rule = scene.hub.fail(fault, method=method, path=path, times=times)
    run_here(scene, [])
    assert rule.hits == times
    loaded_once(scene)


def test_a_commit_that_takes_longer_than_a_request_may_is_found(scene: Scene) -> None:
    scene.hub.fail(Delay(1.5, done=True), method="POST", path=COMMIT)
    run_here(scene, [], request_seconds=0.5)
    loaded_once(scene)


def test_a_commit_that_is_made_after_we_gave_it_up_is_found(scene: Scene) -> None:
    """The server takes its time before it commits, and the next attempt is faster: the first one is refused by its parent."""
    scene.hub.fail(Delay(1.0), method="POST", path=COMMIT)
    run_here(scene, [], request_seconds=0.3)
    deadline = time.monotonic() + 10
    while len(scene.hub.seen("POST", COMMIT)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [seen.status for seen in scene.hub.seen("POST", COMMIT)] == [200, 412]
    loaded_once(scene)


def test_an_absurd_wait_is_cut(scene: Scene) -> None:
    scene.hub.fail(Status(429, {"Retry-After": "3600"}), method="POST", path=COMMIT, times=2)
    waits: list[float] = []
    run_here(scene, waits)
    loaded_once(scene)
    assert 235 < sum(waits) < 245


def test_data_that_the_hub_damaged_is_not_taken_for_published(scene: Scene) -> None:
    """Its digest is right and its content is not, and an upload of the same is refused as known: another repository helps."""
    scene.hub.fail(CorruptUpload(), method="PUT", path="/uploads/", times=2)  # the data and the plot
    waits: list[float] = []
    with pytest.raises(
        HubUnavailableError, match=r"came damaged from the Hub\. If it stays so, delete the repository"
    ) as caught:
        run_here(scene, waits)
    assert f"All answers are safe in {results_folder(scene.output)}" in str(caught.value)
    assert not (results_folder(scene.output) / "published.json").exists()
    assert len(scene.hub.seen("GET", "/objects/")) == 5
    scene.hub.recover()
    summary = run_here(scene, [], HUB_REPO_ID="ana/other")
    assert summary.generated_rows == 0
    assert len(scene.commits("ana/other")) == 1


def test_a_storage_that_always_refuses_ends_the_run(scene: Scene) -> None:
    rule = scene.hub.fail(Status(403), method="PUT", path="/uploads/", times=None)
    with pytest.raises(AccessError, match=r"refused access \(403\)"):
        run_here(scene, [])
    assert 5 <= rule.hits <= 10  # the library's tries of the data and of the plot, side by side
    assert scene.commits() == []


@pytest.mark.parametrize("fault", [Status(503), Reset()], ids=["answers 503", "resets connections"])
def test_a_hub_that_is_down_at_the_start_is_given_up_in_seconds(fault: Fault, scene: Scene) -> None:
    scene.hub.fail(fault, times=None)
    waits: list[float] = []
    with pytest.raises(HubUnavailableError, match=f"the results' repository {REPO}: the Hub "):
        run_here(scene, waits)
    assert 10 < sum(waits) < 40
    assert not list(scene.output.rglob("journal.sqlite"))


def test_a_damaged_download_of_a_card_is_not_published(scene: Scene) -> None:
    card = "# Our answers\n\n" + "Written by hand.\n" * 20
    scene.hub.add_repo("dataset", REPO, files={"README.md": card}, private=True)
    rule = scene.hub.fail(CorruptDownload(), method="GET", path="README.md")
    run_here(scene, [])
    assert rule.hits == 1
    loaded_once(scene)
    assert card.strip() in scene.repo().files()["README.md"].decode()


def test_an_outage_is_not_taken_for_a_missing_dataset(scene: Scene) -> None:
    """`datasets` says that there is no data file, after the library gave up."""
    scene.hub.add_repo("dataset", "ana/rows", files={"test.jsonl": scene.data.read_text()}, private=True)
    rule = scene.hub.fail(Status(503), path="/ana/rows", times=20, skip=1)
    run_here(scene, [], DATASET_ID="ana/rows")
    assert rule.hits == 20
    loaded_once(scene)
