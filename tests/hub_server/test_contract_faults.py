"""Every fault against huggingface_hub: what the library retries, what it raises, what is on the server then."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants, set_client_factory
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]
from huggingface_hub.utils._http import default_client_factory

from tests.hub_server import (
    Call,
    CorruptDownload,
    CorruptUpload,
    CutAnswer,
    Delay,
    Fault,
    HubServer,
    LoseAnswer,
    Repository,
    Reset,
    Status,
    Truncate,
)
from tests.hub_server.operations import DATA_ARGUMENT, TABLE, add, commit

pytestmark = pytest.mark.filterwarnings(DATA_ARGUMENT)

COMMIT, STORAGE = "/commit/", "/objects/"


@pytest.fixture
def hasty() -> Iterator[float]:
    """The seconds after which the client gives up; by itself it would never do so."""
    seconds = 0.5

    def factory() -> Any:
        client = default_client_factory()
        client.timeout = httpx.Timeout(seconds)
        return client

    set_client_factory(factory)
    yield seconds
    set_client_factory(default_client_factory)


def download(api: HfApi, path: str = "data/a.parquet") -> bytes:
    return Path(api.hf_hub_download("ana/d", path, repo_type="dataset")).read_bytes()


def statuses(hub: HubServer, method: str, path: str) -> list[int | None]:
    return [seen.status for seen in hub.seen(method, path)]


def test_a_status_on_a_commit_is_raised_at_once(hub: HubServer, repository: Repository, api: HfApi) -> None:
    rule = hub.fail(Status(503, body="upstream is down"), method="POST", path=COMMIT, times=2)
    for _ in range(2):
        with pytest.raises(HfHubHTTPError, match="upstream is down"):
            commit(api, add("x.parquet", b"x"))
    assert commit(api, add("x.parquet", b"x")) == repository.head()
    assert (rule.hits, statuses(hub, "POST", COMMIT), len(hub.seen("PUT"))) == (2, [503, 503, 200], 1)


def test_a_status_elsewhere_is_waited_out(hub: HubServer, repository: Repository, api: HfApi) -> None:
    hub.fail(Status(429, {"Retry-After": "1"}), path="/preupload/")
    started = time.monotonic()
    commit(api, add("a.txt", "a"))
    assert time.monotonic() - started >= 2
    assert statuses(hub, "POST", "/preupload/") == [429, 200]


def test_the_first_requests_may_be_spared(hub: HubServer, repository: Repository, api: HfApi) -> None:
    hub.fail(Status(500), path="/refs", times=None, skip=2)
    for _ in range(2):
        api.list_repo_refs("ana/d", repo_type="dataset")
    for _ in range(2):
        with pytest.raises(HfHubHTTPError, match="500"):
            api.list_repo_refs("ana/d", repo_type="dataset")
    hub.recover()
    api.list_repo_refs("ana/d", repo_type="dataset")


def test_a_reset_commit_is_not_done(hub: HubServer, repository: Repository, api: HfApi) -> None:
    head = repository.head()
    hub.fail(Reset(), path=COMMIT)
    with pytest.raises(httpx.ReadError) as error:
        commit(api, add("a.txt", "a"))
    assert not isinstance(error.value, OSError | HfHubHTTPError)
    assert repository.head() == head
    assert statuses(hub, "POST", COMMIT) == [None]


@pytest.mark.parametrize("unread", [True, False])
def test_a_reset_upload_is_sent_again(hub: HubServer, repository: Repository, api: HfApi, unread: bool) -> None:
    content = TABLE * 1000
    hub.fail(Reset(unread), method="PUT")
    commit(api, add("x.parquet", content))
    size = len(content)
    assert [(seen.status, seen.body_size) for seen in hub.seen("PUT")] == [(None, 0 if unread else size), (200, size)]
    assert repository.files()["x.parquet"] == content


def test_a_commit_whose_answer_is_lost_is_done(hub: HubServer, repository: Repository, api: HfApi) -> None:
    hub.fail(LoseAnswer(), path=COMMIT)
    with pytest.raises(httpx.ReadError):
        commit(api, add("a.txt", "a"))
    assert repository.files()["a.txt"] == b"a"
    assert statuses(hub, "POST", COMMIT) == [None]


@pytest.mark.parametrize(("size", "again"), [(5_000, 200), (constants.DOWNLOAD_CHUNK_SIZE + 5_000, 206)])
def test_a_download_that_ends_early_is_resumed(
    hub: HubServer, repository: Repository, api: HfApi, size: int, again: int
) -> None:
    """From the last whole chunk of the library, which is its beginning in all but large files."""
    content = bytes(size)
    repository.commit({"x.parquet": content})
    hub.fail(CutAnswer(size - 1_000), method="GET", path=STORAGE)
    assert download(api, "x.parquet") == content
    assert statuses(hub, "GET", STORAGE) == [200, again]


def test_a_download_that_is_reset_is_raised(hub: HubServer, repository: Repository, api: HfApi) -> None:
    hub.fail(CutAnswer(2000, reset=True), method="GET", path=STORAGE)
    with pytest.raises(httpx.ReadError):
        download(api)
    assert download(api) == TABLE


def test_a_short_download_is_noticed(hub: HubServer, repository: Repository, api: HfApi) -> None:
    hub.fail(Truncate(2000), method="GET", path=STORAGE)
    with pytest.raises(OSError, match="should be of size 5000 but has size 2000"):
        download(api)


@pytest.mark.parametrize("path", ["data/a.parquet", "README.md"])
def test_a_corrupt_download_is_not_noticed(hub: HubServer, repository: Repository, api: HfApi, path: str) -> None:
    hub.fail(CorruptDownload(), method="GET", path=f"{STORAGE}|README.md")
    got, intact = download(api, path), repository.files()[path]
    assert got != intact
    assert len(got) == len(intact)
    verified = api.verify_repo_checksums("ana/d", repo_type="dataset", revision=repository.head())
    assert [mismatch["path"] for mismatch in verified.mismatches] == [path]


@pytest.mark.parametrize(("path", "fault_path"), [("x.parquet", "/uploads/"), ("x.txt", COMMIT)])
def test_a_corrupt_upload_looks_right(hub: HubServer, repository: Repository, api: HfApi, path: str, fault_path: str) -> None:
    content = TABLE[:1000]
    operation = add(path, content)
    hub.fail(CorruptUpload(), path=fault_path)
    commit(api, operation)
    (told,) = api.get_paths_info("ana/d", path, repo_type="dataset")
    assert told.size == 1000  # type: ignore[union-attr]
    assert (told.lfs.sha256 if told.lfs else told.blob_id) == operation._local_oid  # type: ignore[union-attr]
    stored = download(api, path)
    assert stored == repository.files()[path] != content
    assert len(stored) == 1000


def test_a_delay_before_the_work(hub: HubServer, repository: Repository, api: HfApi) -> None:
    hub.fail(Delay(0.3), path="/refs")
    started = time.monotonic()
    api.list_repo_refs("ana/d", repo_type="dataset")
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize("done", [True, False])
def test_a_delayed_commit_lands_although_the_client_gave_up(
    hub: HubServer, repository: Repository, api: HfApi, hasty: float, done: bool
) -> None:
    head = repository.head()
    hub.fail(Delay(hasty + 1, done=done), path=COMMIT)
    with pytest.raises(httpx.ReadTimeout):
        commit(api, add("a.txt", "a"))
    assert (repository.head() != head) == done
    deadline = time.monotonic() + 30
    while repository.head() == head and time.monotonic() < deadline:
        time.sleep(0.01)
    assert repository.history()[1].oid == head


def test_somebody_commits_in_between(hub: HubServer, repository: Repository, api: HfApi) -> None:
    parent = repository.head()
    hub.fail(Call(lambda _: repository.commit({"theirs.txt": "1"}, "Came first", author="bo")), path=COMMIT)
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        commit(api, add("a.txt", "a"), parent=parent)
    assert (repository.history()[0].title, repository.history()[0].author) == ("Came first", "bo")
    assert commit(api, add("a.txt", "a"), parent=repository.head()) == repository.head()


def test_faults_add_up(hub: HubServer, repository: Repository, api: HfApi) -> None:
    hub.fail(Call(lambda _: hub.expire_token("hf_ana")), path=COMMIT)
    hub.fail(Delay(0.2), path=COMMIT)
    with pytest.raises(HfHubHTTPError, match="401 Unauthorized"):
        commit(api, add("a.txt", "a"))


@pytest.mark.parametrize(("fault", "files"), [(Reset(), 1), (LoseAnswer(), 2)])
def test_a_connection_is_reset_over_https_too(secure: HubServer, fault: Fault, files: int) -> None:
    """Python before 3.11.9 takes a reset below TLS for an end of the connection."""
    repository = secure.add_repo("dataset", "ana/d")
    secure.fail(fault, path=COMMIT)
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        commit(HfApi(secure.url, token="hf_ana"), add("a.txt", "a"))
    assert len(repository.files()) == files
