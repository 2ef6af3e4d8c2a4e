import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from job.disk import check_no_links, disk_errors, json_text, move_whole, sync_folder, write_whole
from job.errors import OutputError, RunLockedError

HERE = Path("some/journal.sqlite")


def _translated(error: Exception) -> str:
    with pytest.raises(OutputError) as caught, disk_errors(HERE):
        raise error
    assert caught.value.__cause__ is error
    return str(caught.value)


def test_an_error_of_the_disk_names_the_path_and_the_remedy() -> None:
    assert _translated(OSError(28, "No space left on device")) == (
        "some/journal.sqlite: No space left on device. Make room or choose another OUTPUT_DIR, then run the same command again."
    )
    assert _translated(OSError("odd")).startswith("some/journal.sqlite: odd. Make room")


def test_a_full_disk_under_a_database_is_said_so() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA max_page_count = 2")
        connection.execute("CREATE TABLE t(x)")
        with pytest.raises(OutputError) as caught, disk_errors(HERE):
            connection.execute("INSERT INTO t VALUES (?)", ("x" * 100_000,))
    assert str(caught.value) == (
        "some/journal.sqlite: the disk is full: make room and run the same command again; rows in the journal are kept."
    )


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT | 2 << 8])
def test_a_damaged_database_is_to_be_moved_away(code: int) -> None:
    error = sqlite3.DatabaseError("malformed")
    error.sqlite_errorcode = code
    assert _translated(error) == "some/journal.sqlite: the journal is damaged (malformed): move it away and run again."


def test_another_error_of_a_database_asks_for_a_writable_folder() -> None:
    message = _translated(sqlite3.OperationalError("attempt to write a readonly database"))
    assert message == (
        "some/journal.sqlite: cannot be written: attempt to write a readonly database. "
        "Check that OUTPUT_DIR is writable, then run the same command again."
    )


@pytest.mark.parametrize("error", [ValueError("a bug"), OutputError("said already"), RunLockedError("held")])
def test_other_errors_pass_through(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, disk_errors(HERE):
        raise error
    assert caught.value is error


def test_a_whole_file_replaces_the_old_one_and_leaves_nothing_behind(tmp_path: Path) -> None:
    write_whole(tmp_path / "x.json", "old")
    write_whole(tmp_path / "x.json", "né😀\n")
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
    assert (tmp_path / "x.json").read_bytes() == "né😀\n".encode()


def test_the_old_file_stays_where_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    write_whole(tmp_path / "x.json", "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "x.json", "\ud800")
    assert (tmp_path / "x.json").read_text() == "old"


def test_a_finished_file_is_moved_into_its_place(tmp_path: Path) -> None:
    (tmp_path / "half").write_text("new")
    (tmp_path / "whole").write_text("old")
    move_whole(tmp_path / "half", tmp_path / "whole")
    assert (tmp_path / "whole").read_text() == "new"
    assert not (tmp_path / "half").exists()


def test_a_folder_that_knows_no_sync_is_left_alone() -> None:
    sync_folder(Path("/proc"))
    with pytest.raises(FileNotFoundError):
        sync_folder(Path("/proc/none"))


def test_json_is_for_people_too() -> None:
    text = json_text({"a": {"é": None}})
    assert text == '{\n  "a": {\n    "é": null\n  }\n}\n'
    assert json.loads(text) == {"a": {"é": None}}


def test_a_link_in_the_way_of_a_whole_file_is_not_followed(tmp_path: Path) -> None:
    precious, target = tmp_path / "precious", tmp_path / "x.json"
    precious.write_text("precious")
    for link in (target, tmp_path / "x.json.tmp"):
        link.symlink_to(precious)
    write_whole(target, "new")
    assert (precious.read_text(), target.read_text(), target.is_symlink()) == ("precious", "new", False)


@pytest.mark.parametrize("link", ["a", "a/b", "a/b/file"])
@pytest.mark.parametrize("dangling", [True, False])
def test_a_link_on_the_way_is_an_output_error(tmp_path: Path, link: str, dangling: bool) -> None:
    target = tmp_path / "elsewhere"
    if not dangling:
        target.mkdir()
    top = tmp_path / "top"
    (top / link).parent.mkdir(parents=True)
    check_no_links(top, [top / "a" / "b" / "file"])
    (top / link).symlink_to(target)
    with pytest.raises(OutputError) as caught:
        check_no_links(top, [top / "other", top / "a" / "b" / "file"])
    assert str(caught.value).startswith(f"{top / link} is a link, and below OUTPUT_DIR")


def test_the_folder_of_all_results_may_be_a_link_itself(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "disk")
    check_no_links(tmp_path / "results", [tmp_path / "results" / "a"])


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(OutputError, match=rf"^{tmp_path}/run\.json(\.tmp)?: Is a directory"), disk_errors(tmp_path):
        write_whole(tmp_path / "run.json", "{}")
    with pytest.raises(OutputError, match=f"^{tmp_path}: No such file or directory"), disk_errors(tmp_path):
        (tmp_path / "nothing").read_text()


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_whole_file_is_written_whatever_lies_where_it_is_made(tmp_path: Path, kind: str) -> None:
    """A pipe would wait for its reader, and a link lead out of the folder."""
    half_made, elsewhere = tmp_path / "a.json.tmp", tmp_path / "elsewhere"
    elsewhere.write_text("untouched")
    if kind == "pipe":
        os.mkfifo(half_made)
    else:
        half_made.symlink_to(elsewhere)
    write_whole(tmp_path / "a.json", "{}")
    assert (tmp_path / "a.json").read_text() == "{}"
    assert elsewhere.read_text() == "untouched"
