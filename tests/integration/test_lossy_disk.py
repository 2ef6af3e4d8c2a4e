"""The measuring device itself: what a power cut takes and what it leaves."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.integration.lossy_disk import APPENDED, SECTOR_BYTES, Call, LossyDisk, Tree, restore, tree_of

ROOT = Path("/disk")
FILE = ROOT / "file"


def disk(*calls: Call, tree: Tree | None = None) -> LossyDisk:
    made = LossyDisk(ROOT, tree)
    for call in calls:
        made.apply(call)
    return made


def outcomes(left_by: LossyDisk, tries: int = 400) -> Iterator[Tree]:
    chance = Random(1)
    return (left_by.after_power_cut(chance) for _ in range(tries))


def written(data: bytes, offset: int = 0) -> Call:
    return Call("write", FILE, data, offset)


SYNC, SYNC_FOLDER = Call("sync", FILE), Call("sync", ROOT)
CREATE = Call("create", FILE)


def test_a_file_is_there_for_certain_when_it_and_its_folder_were_synced() -> None:
    synced = disk(CREATE, written(b"kept"), SYNC, SYNC_FOLDER)
    assert synced.after_power_cut(None) == {"file": b"kept"}
    assert all(tree == {"file": b"kept"} for tree in outcomes(synced))


def test_without_a_sync_of_the_folder_a_synced_file_may_be_gone() -> None:
    nameless = disk(CREATE, written(b"kept"), SYNC)
    assert nameless.now() == {"file": b"kept"}
    assert nameless.after_power_cut(None) == {}
    found = list(outcomes(nameless))
    assert {} in found
    assert {"file": b"kept"} in found


def test_without_a_sync_of_the_file_any_sector_may_be_missing() -> None:
    old, new = b"o" * 3 * SECTOR_BYTES, b"n" * 2 * SECTOR_BYTES
    torn = disk(written(new, offset=SECTOR_BYTES // 2), tree={"file": old})
    assert torn.after_power_cut(None) == {"file": old}
    found = {str(tree["file"], "ascii") for tree in outcomes(torn)}  # type: ignore[arg-type]
    pieces = {text[:: SECTOR_BYTES // 2] for text in found}
    assert pieces == {"o" + a + b + b + c + "o" for a in "on" for b in "on" for c in "on"}


def test_a_file_may_have_grown_by_zeros_only() -> None:
    found = [tree["file"] for tree in outcomes(disk(written(b"new", offset=3), tree={"file": b"old"}))]
    assert {bytes(content) for content in found if isinstance(content, bytes)} == {b"old", b"old\0\0\0", b"oldnew"}


def test_a_truncation_may_be_lost_and_what_was_written_after_it_not() -> None:
    truncated = disk(Call("resize", FILE, offset=0), written(b"ab"), tree={"file": b"12345"})
    assert truncated.now() == {"file": b"ab"}
    assert truncated.after_power_cut(None) == {"file": b"12345"}
    assert {tree["file"] for tree in outcomes(truncated)} == {b"12345", b"", b"\0\0", b"ab", b"ab345"}


def test_what_is_appended_is_written_at_the_end() -> None:
    assert disk(written(b"c", APPENDED), written(b"d", APPENDED), tree={"file": b"ab"}).now() == {"file": b"abcd"}


def test_a_rename_may_be_lost_until_the_folder_is_synced_and_never_by_half() -> None:
    swap = [
        Call("create", ROOT / "tmp"),
        Call("write", ROOT / "tmp", b"new"),
        Call("sync", ROOT / "tmp"),
        Call("rename", ROOT / "tmp", target=str(FILE)),
    ]
    renamed = disk(*swap, tree={"file": b"old"})
    assert renamed.now() == {"file": b"new"}
    found = list(outcomes(renamed))
    assert all(tree["file"] in (b"old", b"new") for tree in found)
    assert {"file": b"old"} in found
    assert {"file": b"new"} in found
    assert {"file": b"old", "tmp": b"new"} in found
    assert disk(*swap, SYNC_FOLDER, tree={"file": b"old"}).after_power_cut(None) == {"file": b"new"}


def test_a_removed_file_may_come_back_until_the_folder_is_synced() -> None:
    removed = disk(Call("remove", FILE), tree={"file": b"old"})
    assert {len(tree) for tree in outcomes(removed)} == {0, 1}
    removed.apply(SYNC_FOLDER)
    assert removed.after_power_cut(None) == {}


def test_what_is_in_a_folder_goes_with_its_name() -> None:
    inner = ROOT / "a" / "b"
    calls = [Call("make_folder", ROOT / "a"), Call("make_folder", inner), Call("sync", inner), Call("sync", ROOT / "a")]
    assert disk(*calls).after_power_cut(None) == {}
    assert disk(*calls, SYNC_FOLDER).after_power_cut(None) == {"a": None, "a/b": None}


def test_what_is_not_modelled_is_refused() -> None:
    with pytest.raises(ValueError, match="another folder"):
        disk(Call("make_folder", ROOT / "a"), Call("rename", FILE, target=str(ROOT / "a" / "file")), tree={"file": b""})


def test_a_tree_is_restored_and_nothing_else_is_left(tmp_path: Path) -> None:
    tree: Tree = {"a": None, "a/file": b"\0\xff", "link": "a", "empty": None}
    restore({"old": None, "old/old": b"old", "a": b"old", "empty": None, "link": "old"}, tmp_path)
    restore(tree, tmp_path)
    assert tree_of(tmp_path) == tree
