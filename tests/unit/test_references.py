import hashlib
import shutil
from pathlib import Path

import pytest

from job.references import base_name, content_digest, is_local, sha256_of

A = hashlib.sha256(b"a").hexdigest()


@pytest.mark.parametrize(
    "reference",
    ["/models/llama", "./llama", "../llama", "~/llama", "a/b/c", "rows.jsonl", "data/rows.csv", "x.parquet", "y.json"],
)
def test_a_reference_written_as_a_path_is_local(reference: str) -> None:
    assert is_local(reference)


@pytest.mark.parametrize("reference", ["mlabonne/llmtwin", "gpt2", "org/model-3.1-8B", "a" * 300, "org/" + "a" * 300, "a\0b"])
def test_a_hub_id_is_not_local(reference: str) -> None:
    assert not is_local(reference)


def test_a_hub_id_is_local_where_such_a_folder_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert is_local("org/model")
    assert not is_local("org/other")


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("mlabonne/TwinLlama-3.1-8B", "TwinLlama-3.1-8B"),
        ("gpt2", "gpt2"),
        ("/models/llama", "llama"),
        ("/models/llama/", "llama"),
        ("/models/llama/../mistral", "mistral"),
    ],
)
def test_the_base_name_is_the_last_part(reference: str, name: str) -> None:
    assert base_name(reference) == name


def test_the_base_name_of_the_current_folder_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-model").mkdir()
    monkeypatch.chdir(tmp_path / "my-model")
    assert base_name(".") == "my-model"


def test_a_link_to_itself_has_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert base_name(str(tmp_path / "loop")) == "loop"


def test_the_base_name_of_a_path_below_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert base_name("~") == "me"


def _folder(path: Path) -> Path:
    (path / "sub").mkdir(parents=True)
    (path / "one.txt").write_text("a")
    (path / "sub" / "two.txt").write_text("b")
    return path


def test_the_digest_of_a_file_is_that_of_its_content(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("a")
    assert sha256_of(file) == A
    assert content_digest(file) == A


def test_the_digest_of_a_folder_is_that_of_its_sorted_lines(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "f")
    b = hashlib.sha256(b"b").hexdigest()
    assert content_digest(folder) == hashlib.sha256(f"{A} one.txt\n{b} sub/two.txt\n".encode()).hexdigest()


def test_the_digest_is_the_same_for_a_copy_elsewhere(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "f")
    copy = shutil.copytree(folder, tmp_path / "other" / "name")
    assert content_digest(copy) == content_digest(folder)


def test_the_digest_changes_with_a_content_a_name_or_a_place(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "f")
    digests = {content_digest(folder)}
    (folder / "one.txt").write_text("A")
    digests.add(content_digest(folder))
    (folder / "one.txt").rename(folder / "uno.txt")
    digests.add(content_digest(folder))
    (folder / "uno.txt").rename(folder / "sub" / "uno.txt")
    digests.add(content_digest(folder))
    assert len(digests) == 4


def test_the_digest_leaves_hidden_files_and_folders_out(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "f")
    before = content_digest(folder)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_text("x")
    (folder / "sub" / ".hidden").write_text("x")
    assert content_digest(folder) == before


def test_the_digest_follows_links_to_files(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "f")
    linked = tmp_path / "snapshot"
    (linked / "sub").mkdir(parents=True)
    (linked / "one.txt").symlink_to(folder / "one.txt")
    (linked / "sub" / "two.txt").symlink_to(folder / "sub" / "two.txt")
    assert content_digest(linked) == content_digest(folder)


def test_a_file_that_cannot_be_read_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="dangling"):
        content_digest(tmp_path)
