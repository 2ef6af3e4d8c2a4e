"""The folder for temporary files: there while it is needed, gone however the process ends."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from job.errors import OutputError
from job.scratch import scratch_folder, temporary_folder

USES_IT = """
import os, subprocess, sys, tempfile, time
from job.scratch import scratch_folder
with scratch_folder(os.environ) as folder:
    (folder / "file").write_text("x")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is this process's for temporary files; short, as they are in practice."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_all_temporary_files_are_in_it_and_gone_after_it(temporary: Path) -> None:
    environ = {"TMPDIR": str(temporary)}
    with scratch_folder(environ) as folder:
        assert folder.parent == temporary_folder() == temporary
        assert environ["TMPDIR"] == str(folder)
        assert environ["TORCHINDUCTOR_CACHE_DIR"] == f"{temporary}/torchinductor_{os.getuid()}"
        with tempfile.NamedTemporaryFile(delete=False) as file:
            assert Path(file.name).parent == folder
        (folder / "sub").mkdir()
    assert list(temporary.iterdir()) == []
    assert environ["TMPDIR"] == str(temporary)
    assert tempfile.gettempdir() == str(temporary)


def test_a_cache_that_is_set_stays_where_it_is(temporary: Path) -> None:
    environ = {"TORCHINDUCTOR_CACHE_DIR": "/elsewhere"}
    with scratch_folder(environ):
        assert environ["TORCHINDUCTOR_CACHE_DIR"] == "/elsewhere"
    assert environ == {"TORCHINDUCTOR_CACHE_DIR": "/elsewhere"}


def test_sockets_fit_where_the_folder_for_temporary_files_has_a_long_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else is where it was asked for: that may be the only place with room."""
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    environ: dict[str, str] = {}
    with scratch_folder(environ) as folder:
        assert folder.parent == long
        sockets = Path(environ["VLLM_RPC_BASE_PATH"])
        assert sockets.is_dir()
        assert len(str(sockets / "123e4567-e89b-12d3-a456-426614174000").encode()) <= 107
    assert not folder.exists()
    assert not sockets.exists()
    assert "VLLM_RPC_BASE_PATH" not in environ


def test_no_room_for_temporary_files_is_named(temporary: Path) -> None:
    temporary.rmdir()
    with (
        pytest.raises(OutputError, match=r"no temporary file can be made: No such file or directory\. Set TMPDIR"),
        scratch_folder({}),
    ):
        pass


@pytest.mark.parametrize("whole_group", [False, True], ids=["process", "process group"])
def test_it_is_gone_after_sigkill(temporary: Path, whole_group: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", USES_IT],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert (folder / "file").exists()
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert list(temporary.iterdir()) == []
