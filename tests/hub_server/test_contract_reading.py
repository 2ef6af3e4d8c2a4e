"""huggingface_hub reads from the server: information, lists, downloads; without faults."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download, snapshot_download
from huggingface_hub.errors import RemoteEntryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile, RepoFolder

from tests.hub_server import HubServer, Repository
from tests.hub_server.operations import CARD, TABLE


def test_information_names_commit_files_and_card(repository: Repository, api: HfApi) -> None:
    info = api.dataset_info("ana/d", files_metadata=True)
    assert (info.id, info.sha, info.private, info.gated) == ("ana/d", repository.head(), False, False)
    assert info.card_data is not None
    assert info.card_data.license == "mit"
    assert info.siblings is not None
    sizes = {file.rfilename: (file.size, file.lfs.sha256 if file.lfs else None) for file in info.siblings}
    assert sizes["README.md"] == (len(CARD), None)
    assert sizes["data/a.parquet"] == (5000, repository.file("data/a.parquet").blob.sha256)
    assert api.dataset_info("ana/d", revision=repository.history()[1].oid).sha != info.sha


def test_trees_and_commits_come_in_pages(api: HfApi) -> None:
    with HubServer(page_size=2) as hub:
        hub.add_user("ana", token="hf_ana")
        repository = hub.add_repo("dataset", "ana/d", files={f"data/{number}.txt": "x" for number in range(5)})
        for number in range(4):
            repository.commit({"n": f"{number}"}, f"Commit {number}")
        api = HfApi(hub.url, token="hf_ana")
        entries = list(api.list_repo_tree("ana/d", repo_type="dataset", recursive=True))
        files = [entry.path for entry in entries if isinstance(entry, RepoFile)]
        assert files == [".gitattributes", *(f"data/{number}.txt" for number in range(5)), "n"]
        assert [entry.path for entry in entries if isinstance(entry, RepoFolder)] == ["data"]
        assert len(hub.seen("GET", "/tree/")) == 4
        commits = api.list_repo_commits("ana/d", repo_type="dataset")
        assert [entry.commit_id for entry in commits] == [entry.oid for entry in repository.history()]
        assert [entry.title for entry in commits][:2] == ["Commit 3", "Commit 2"]


def test_a_part_of_a_tree_is_listed(repository: Repository, api: HfApi) -> None:
    below = [entry.path for entry in api.list_repo_tree("ana/d", "data", repo_type="dataset")]
    assert below == ["data/a.parquet", "data/b.txt"]
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree("ana/d", "dat", repo_type="dataset"))
    found = api.get_paths_info("ana/d", ["data", "README.md", "none"], repo_type="dataset")
    assert [entry.path for entry in found] == ["data", "README.md"]


@pytest.mark.parametrize("path", ["README.md", "data/a.parquet"])
def test_a_file_is_downloaded(hub: HubServer, repository: Repository, api: HfApi, path: str) -> None:
    got = Path(api.hf_hub_download("ana/d", path, repo_type="dataset"))
    assert got.read_bytes() == repository.files()[path]
    assert got.parent.name == repository.head() or got.parent.parent.name == repository.head()
    storage = [seen.has_auth for seen in hub.requests if seen.origin == "storage"]
    assert storage == ([False] if path.endswith("parquet") else [])


def test_a_missing_file_is_remembered_as_missing(hub: HubServer, repository: Repository, api: HfApi) -> None:
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download("ana/d", "none", repo_type="dataset", endpoint=hub.url, token=False)
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download("ana/d", "README.md", repo_type="dataset", revision="v9", endpoint=hub.url, token=False)


def test_a_snapshot_is_downloaded_once(hub: HubServer, repository: Repository) -> None:
    first = snapshot_download("ana/d", repo_type="dataset", endpoint=hub.url, token=False)
    got = {path.relative_to(first).as_posix(): path.read_bytes() for path in Path(first).rglob("*") if path.is_file()}
    assert got == repository.files()
    before = len(hub.requests)
    assert snapshot_download("ana/d", repo_type="dataset", revision=repository.head(), endpoint=hub.url, token=False) == first
    assert len(hub.requests) == before


def test_a_model_folder_is_served(hub: HubServer, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(TABLE)
    (folder / "config.json").write_text("{}")
    hub.add_repo("model", "org/m", folder=folder)
    got = Path(snapshot_download("org/m", endpoint=hub.url, token=False, ignore_patterns=".gitattributes"))
    assert {path.name: path.read_bytes() for path in got.iterdir()} == {"config.json": b"{}", "model.safetensors": TABLE}


def test_parts_of_a_file_are_read(hub: HubServer, repository: Repository) -> None:
    files = HfFileSystem(endpoint=hub.url, token=False, skip_instance_cache=True)
    assert files.read_bytes("datasets/ana/d/data/a.parquet", start=1000, end=1010) == TABLE[1000:1010]
    assert [seen.status for seen in hub.requests if seen.origin == "storage"] == [206]


def test_a_checksum_is_verified(hub: HubServer, repository: Repository, api: HfApi) -> None:
    api.snapshot_download("ana/d", repo_type="dataset")
    verified = api.verify_repo_checksums("ana/d", repo_type="dataset", revision=repository.head())
    assert (verified.checked_count, verified.mismatches) == (4, [])
