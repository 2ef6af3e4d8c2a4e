"""huggingface_hub writes to the server, and walks through every route; without faults."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub_server import HubServer, Repository
from tests.hub_server.operations import CARD, DATA_ARGUMENT, TABLE, add, commit
from tests.hub_server.routes import ROUTES

pytestmark = pytest.mark.filterwarnings(DATA_ARGUMENT)


def test_a_repository_is_created_once(hub: HubServer, api: HfApi) -> None:
    url = api.create_repo("ana/d", repo_type="dataset", private=True)
    assert (url.repo_id, url.repo_type) == ("ana/d", "dataset")
    assert api.create_repo("ana/d", repo_type="dataset", private=True, exist_ok=True) == url
    with pytest.raises(HfHubHTTPError, match="You already created this dataset repo") as error:
        api.create_repo("ana/d", repo_type="dataset")
    assert error.value.response.status_code == 409
    assert hub.repo("dataset", "ana/d").private
    assert not api.repo_exists("ana/d")
    api.create_repo("m")
    assert not hub.repo("model", "ana/m").private


def test_a_private_request_does_not_hide_a_public_repository(repository: Repository, api: HfApi) -> None:
    api.create_repo("ana/d", repo_type="dataset", private=True, exist_ok=True)
    assert not repository.private
    assert api.dataset_info("ana/d").private is False


def test_a_commit_holds_regular_and_lfs_files(hub: HubServer, repository: Repository, api: HfApi, tmp_path: Path) -> None:
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    oid = commit(api, add("README.md", CARD + "more"), add("c.parquet", tmp_path / "c.parquet"), add("d.bin", io.BytesIO(b"d")))
    assert oid == repository.head()
    assert repository.history()[0].author == "ana"
    files = repository.files()
    assert (files["README.md"].decode(), files["c.parquet"], files["d.bin"]) == (CARD + "more", b"PAR1", b"d")
    assert [repository.file(path).is_lfs for path in ("README.md", "c.parquet", "d.bin")] == [False, True, True]
    assert [(seen.has_auth, seen.body_size) for seen in hub.seen("PUT")] in ([(False, 4), (False, 1)], [(False, 1), (False, 4)])


def test_a_large_file_comes_in_parts(api: HfApi) -> None:
    with HubServer(part_size=2000) as hub:
        hub.add_user("ana", token="hf_ana")
        repository = hub.add_repo("dataset", "ana/d")
        commit(HfApi(hub.url, token="hf_ana"), add("large.parquet", TABLE), add("small.parquet", TABLE[:2000]))
        assert [seen.body_size for seen in hub.seen("PUT", r"/\d+$")] == [2000, 2000, 1000]
        assert [seen.status for seen in hub.seen("POST", "/complete")] == [200]
        assert repository.files()["large.parquet"] == TABLE


def test_what_is_there_is_not_uploaded_again(hub: HubServer, repository: Repository, api: HfApi) -> None:
    head = repository.head()
    assert commit(api, add("README.md", CARD), add("data/a.parquet", TABLE)) == head
    assert not hub.seen("POST", "/commit/")
    commit(api, add("elsewhere.parquet", TABLE))
    assert repository.files()["elsewhere.parquet"] == TABLE
    assert not hub.seen("PUT")


def test_a_stale_parent_is_refused(repository: Repository, api: HfApi) -> None:
    parent = repository.head()
    repository.commit({"other": "1"})
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as error:
        commit(api, add("mine", "2"), parent=parent)
    assert error.value.response.status_code == 412
    assert "mine" not in repository.files()
    assert commit(api, add("mine", "2"), parent=repository.head()) == repository.head()


def test_files_and_folders_are_deleted(repository: Repository, api: HfApi) -> None:
    commit(api, CommitOperationDelete("README.md"))
    commit(api, CommitOperationDelete("data/"), add("data/new.txt", "new"))
    assert repository.files().keys() == {".gitattributes", "data/new.txt"}
    with pytest.raises(RemoteEntryNotFoundError, match="A file with this name doesn't exist"):
        commit(api, CommitOperationDelete("data"))


def test_files_are_copied_between_branches_without_an_upload(hub: HubServer, repository: Repository, api: HfApi) -> None:
    repository.create_branch("run-1")
    repository.commit({"data/one.parquet": TABLE[:1000], "notes.txt": "one"}, branch="run-1")
    copies = [CommitOperationCopy(path, path, src_revision="run-1") for path in ("data/one.parquet", "notes.txt")]
    commit(api, *copies, CommitOperationDelete("data/a.parquet"), parent=repository.head())
    files = repository.files()
    assert (files["data/one.parquet"], files["notes.txt"]) == (TABLE[:1000], b"one")
    assert repository.file("data/one.parquet").is_lfs
    assert "data/a.parquet" not in files
    assert not hub.seen("PUT")
    with pytest.raises(EntryNotFoundError, match="file is missing on repo"):
        commit(api, CommitOperationCopy("none.parquet", "x", src_revision="run-1"))


def test_an_object_that_was_never_uploaded_is_refused(repository: Repository, api: HfApi) -> None:
    unsent = add("x.parquet", TABLE + b"x")
    unsent._upload_mode = "lfs"
    unsent._is_uploaded = True
    with pytest.raises(HfHubHTTPError, match="LFS pointer pointed to a file that does not exist"):
        commit(api, unsent)
    assert len(repository.history()) == 2


def test_branches_come_and_go(repository: Repository, api: HfApi) -> None:
    first = repository.history()[-1].oid
    api.create_branch("ana/d", branch="run/1", repo_type="dataset")
    api.create_branch("ana/d", branch="old", revision=first, repo_type="dataset")
    api.create_branch("ana/d", branch="old", repo_type="dataset", exist_ok=True)
    with pytest.raises(HfHubHTTPError, match="Reference already exists"):
        api.create_branch("ana/d", branch="old", repo_type="dataset")
    oid = commit(api, add("on-branch", "1"), revision="run/1")
    refs = {ref.name: ref.target_commit for ref in api.list_repo_refs("ana/d", repo_type="dataset").branches}
    assert refs == {"main": repository.head(), "run/1": oid, "old": first}
    assert api.file_exists("ana/d", "on-branch", repo_type="dataset", revision="run/1")
    assert not api.file_exists("ana/d", "on-branch", repo_type="dataset")
    api.delete_branch("ana/d", branch="run/1", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        commit(api, add("on-branch", "1"), revision="run/1")


def test_a_bad_card_is_refused_before_anything_is_sent(hub: HubServer, repository: Repository, api: HfApi) -> None:
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
        commit(api, add("README.md", "---\na: [1\n---\n"))
    assert [seen.path for seen in hub.requests] == ["/api/validate-yaml"]


def test_pull_requests_are_refused(repository: Repository, api: HfApi) -> None:
    with pytest.raises(HfHubHTTPError, match="has no pull requests"):
        api.create_commit("ana/d", [add("x", "x")], commit_message="x", repo_type="dataset", create_pr=True)


@pytest.fixture
def walked() -> Iterator[HubServer]:
    """A server after one client has done everything that has a route."""
    with HubServer(part_size=2000) as hub:
        hub.add_user("ana", token="hf_ana")
        api = HfApi(hub.url, token="hf_ana")
        api.whoami()
        api.create_repo("ana/d", repo_type="dataset")
        api.auth_check("ana/d", repo_type="dataset")
        api.auth_check("ana/d", repo_type="dataset", write=True)
        commit(api, add("README.md", CARD), add("a.parquet", TABLE), add("b.parquet", b"b"))
        api.create_branch("ana/d", branch="side", repo_type="dataset")
        api.create_tag("ana/d", tag="v1", repo_type="dataset")
        commit(api, CommitOperationCopy("a.parquet", "c.parquet"))
        api.repo_info("ana/d", repo_type="dataset")
        api.list_repo_refs("ana/d", repo_type="dataset")
        api.list_repo_commits("ana/d", repo_type="dataset")
        api.snapshot_download("ana/d", repo_type="dataset", revision="v1")
        api.delete_branch("ana/d", branch="side", repo_type="dataset")
        api.delete_repo("ana/d", repo_type="dataset")
        with pytest.raises(RepositoryNotFoundError):
            api.repo_info("ana/d", repo_type="dataset")
        yield hub


def test_a_client_walks_through_every_route(walked: HubServer) -> None:
    taken = {
        route.pattern.pattern
        for route in ROUTES
        for seen in walked.requests
        if (seen.origin, seen.method) == (route.origin, route.method) and route.pattern.fullmatch(seen.path.partition("?")[0])
    }
    assert taken == {route.pattern.pattern for route in ROUTES}
    assert {seen.status for seen in walked.requests} == {200, 201, 302, 404}
