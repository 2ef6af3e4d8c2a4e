"""Repositories and contents, without HTTP."""

import hashlib
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.hub_server.attributes import LARGE_BYTES, default_attributes, is_stored_by_lfs
from tests.hub_server.blobs import Blobs, File, git_blob_id
from tests.hub_server.errors import HubError
from tests.hub_server.repository import Repository
from tests.hub_server.store import Store
from tests.hub_server.trees import Delete, DeleteFolder, Operation, Put, changed, entry, listing


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


@pytest.fixture
def repository(blobs: Blobs) -> Repository:
    return Store(blobs).create("dataset", "ana/d")


def file_of(blobs: Blobs, text: str) -> File:
    return File.regular(blobs.write([text.encode()]))


def code_of(error: pytest.ExceptionInfo[HubError]) -> tuple[int, str | None]:
    return error.value.status, error.value.code


def test_a_repository_starts_with_the_commit_of_the_hub(repository: Repository) -> None:
    (first,) = repository.history()
    assert (first.title, first.parent, list(first.tree)) == ("initial commit", None, [".gitattributes"])


def test_a_name_is_taken_once_for_each_kind(blobs: Blobs) -> None:
    store = Store(blobs)
    store.create("dataset", "ana/x")
    store.create("model", "ana/x")
    with pytest.raises(HubError) as error:
        store.create("dataset", "ana/x")
    assert code_of(error) == (409, None)


def test_commits_change_their_branch_only(repository: Repository) -> None:
    repository.commit({"a": "1"})
    repository.create_branch("side")
    repository.create_tag("v1")
    repository.commit({"a": "2", "b": "3"}, branch="side")
    repository.commit({"c": "4"}, branch="refs/heads/side")
    assert repository.files()["a"] == b"1"
    assert repository.files("side").keys() == {".gitattributes", "a", "b", "c"}
    assert repository.files("v1") == repository.files("main") == repository.files(repository.head())


def test_two_commits_of_one_content_differ(repository: Repository) -> None:
    assert repository.commit({"a": "1"}) != repository.commit({"a": "1"})


def test_of_many_commits_on_one_parent_one_is_made(repository: Repository, blobs: Blobs) -> None:
    parent = repository.head()

    def attempt(number: int) -> int:
        try:
            repository.apply([Put(f"{number}", file_of(blobs, f"{number}"))], "race", parent=parent)
        except HubError as error:
            return error.status
        return 200

    with ThreadPoolExecutor(16) as pool:
        assert sorted(pool.map(attempt, range(64))) == [200] + [412] * 63
    assert len(repository.history()) == 2


@pytest.mark.parametrize("revision", ["nowhere", "0" * 40, "refs/pr/1"])
def test_an_unknown_revision_is_refused(repository: Repository, revision: str) -> None:
    for attempt in (repository.find, lambda name: repository.commit({"a": ""}, branch=name), repository.delete_branch):
        with pytest.raises(HubError) as error:
            attempt(revision)
        assert code_of(error) == (404, "RevisionNotFound")


def test_a_commit_cannot_be_made_on_a_commit_or_tag(repository: Repository) -> None:
    repository.create_tag("v1")
    for revision in (repository.head(), "v1"):
        with pytest.raises(HubError) as error:
            repository.commit({"a": "1"}, branch=revision)
        assert code_of(error) == (404, "RevisionNotFound")


def test_branches_are_made_once_and_main_stays(repository: Repository) -> None:
    repository.create_branch("side")
    with pytest.raises(HubError) as error:
        repository.create_branch("side")
    assert error.value.status == 409
    repository.delete_branch("side")
    with pytest.raises(HubError) as error:
        repository.delete_branch("main")
    assert error.value.status == 403
    assert list(repository.branches) == ["main"]


def test_deletions_must_find_something(blobs: Blobs) -> None:
    tree = {name: file_of(blobs, name) for name in ("a", "data/b", "data/deep/c", "database")}
    assert list(changed(tree, [Delete("a"), DeleteFolder("data/")])) == ["database"]
    for operation in (Delete("data"), DeleteFolder("a"), Delete("z"), DeleteFolder("z")):
        with pytest.raises(HubError) as error:
            changed(tree, [operation])
        assert code_of(error) == (404, "EntryNotFound")
    assert len(tree) == 4


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", "../a", "a/./b", ".git/config"])
def test_a_path_must_be_one(blobs: Blobs, path: str) -> None:
    with pytest.raises(HubError, match="not a path"):
        changed({}, [Put(path, file_of(blobs, ""))])


def test_no_path_is_both_file_and_folder(blobs: Blobs) -> None:
    operations: list[Operation] = [Put("a", file_of(blobs, "")), Put("a/b", file_of(blobs, ""))]
    with pytest.raises(HubError, match="both a file and a folder: a"):
        changed({}, operations)


def test_a_listing_has_files_and_folders(blobs: Blobs) -> None:
    tree = {name: file_of(blobs, name) for name in ("a", "data/b", "data/deep/c", "data/deep/d", "database")}

    def paths(folder: str, *, recursive: bool) -> list[str]:
        return [item["path"] for item in listing(tree, folder, recursive=recursive)]

    assert paths("", recursive=False) == ["a", "data", "database"]
    assert paths("", recursive=True) == ["a", "data", "data/b", "data/deep", "data/deep/c", "data/deep/d", "database"]
    assert paths("data", recursive=False) == ["data/b", "data/deep"]
    assert paths("data", recursive=True) == ["data/b", "data/deep", "data/deep/c", "data/deep/d"]
    assert entry(tree, "data")["type"] == "directory"
    with pytest.raises(HubError) as error:
        paths("dat", recursive=False)
    assert code_of(error) == (404, "EntryNotFound")


def test_a_blob_id_is_that_of_git(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"some\ncontent")
    by_git = subprocess.run(["git", "hash-object", "--no-filters", file], capture_output=True, text=True, check=True)
    assert git_blob_id(12, [b"some\n", b"content"]) == by_git.stdout.strip()


def test_large_files_and_known_suffixes_go_by_lfs(repository: Repository) -> None:
    attributes = default_attributes("model")
    assert is_stored_by_lfs("deep/model.safetensors", 1, attributes)
    assert not is_stored_by_lfs("config.json", LARGE_BYTES - 1, attributes)
    assert is_stored_by_lfs("config.json", LARGE_BYTES, attributes)
    repository.commit({".gitattributes": "*.json filter=lfs\n"})
    repository.commit({"a.json": "{}", "a.parquet": "PAR1"})
    assert (repository.file("a.json").is_lfs, repository.file("a.parquet").is_lfs) == (True, False)


def test_a_folder_is_served_from_where_it_lies(blobs: Blobs, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    store = Store(blobs)
    repository = store.create("model", "ana/m")
    store.fill(repository, {"README.md": "# m"}, folder)
    weights = repository.file("deep/model.safetensors")
    assert weights.blob.path == folder / "deep" / "model.safetensors"
    assert weights.content_id == hashlib.sha256(b"weights").hexdigest()
    assert repository.objects.keys() == {weights.content_id}
    assert repository.files()["README.md"] == b"# m"
    with pytest.raises(ValueError, match="not a content of this store"):
        blobs.corrupt(weights.blob)


@pytest.mark.parametrize("content", [b"x", b"ab", b"some content"])
def test_a_corrupt_blob_has_its_size_and_another_content(blobs: Blobs, content: bytes) -> None:
    blob = blobs.write([content])
    blobs.corrupt(blob)
    damaged = b"".join(blob.chunks())
    assert damaged != content
    assert len(damaged) == blob.size == len(content)
    assert blob.sha256 == hashlib.sha256(content).hexdigest()
