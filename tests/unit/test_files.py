import os
from pathlib import Path

import pytest

from job.files import open_file, parsed_json, read_json, read_text


def test_a_file_and_a_link_to_one_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b'\xef\xbb\xbf{"a": "\xc3\xa9\\r"}')
    (tmp_path / "link").symlink_to("file")
    assert read_text(tmp_path / "link", "utf-8-sig") == '{"a": "é\\r"}'
    (tmp_path / "file").write_bytes(b"[1]")
    assert read_json(tmp_path / "link") == [1]


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "folder", "device"):
        with pytest.raises(OSError, match="is not a regular file") as caught:
            open_file(tmp_path / name)
        assert caught.value.filename == str(tmp_path / name)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FileNotFoundError):
        open_file(tmp_path / "nothing")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "{"])
def test_json_that_cannot_be_read_is_a_wrong_value(text: str) -> None:
    with pytest.raises(ValueError, match=r"nested too deeply|Expecting"):
        parsed_json(text)
