"""The access token is in nothing that a run writes, at the highest level of talk, whether the run passes or fails."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.hub_server import HubServer, Status
from tests.support import ECHO, ROOT, run_job, start_job

pytestmark = pytest.mark.slow

TOKEN = "Zq7-distinctive+token/4711=="  # not of the form hf_..., by which the log would know it
ROWS = "".join(json.dumps({"instruction": text}) + "\n" for text in ("Say hello.", "Count to three."))
IGNORED = {".git", ".venv", ".cache", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}


def files_of(folder: Path) -> dict[Path, float]:
    """Every file below the folder with its time of change; where a tool has its own files is left out."""
    found: dict[Path, float] = {}
    for path in folder.iterdir():
        if path.name in IGNORED:
            continue
        if path.is_dir() and not path.is_symlink():
            found |= files_of(path)
        elif path.is_file():
            found[path] = path.stat().st_mtime
    return found


@pytest.fixture
def hub(hub: HubServer) -> HubServer:
    hub.add_token("ana", TOKEN, "write")
    hub.add_repo("dataset", "ana/d", files={"test.jsonl": ROWS}, private=True)
    hub.add_repo("dataset", "bo/d", files={"test.jsonl": ROWS}, gated="manual")
    return hub


RUNS: dict[str, tuple[int, Mapping[str, object]]] = {
    "a run that publishes": (0, {"HUB_NAMESPACE": "ana"}),
    "a run that is refused": (77, {"HUB_NAMESPACE": "bo"}),
    "a run that finds no commit": (78, {"DATASET_ID": "ana/d", "DATASET_REVISION": "0" * 40}),
    "a run whose dataset is refused": (77, {"DATASET_ID": "bo/d"}),
    "a run with wrong settings": (78, {"HF_TOKEN": f"{TOKEN} {TOKEN}"}),
}


@pytest.mark.parametrize(("run", "log_format"), [*((run, "json") for run in RUNS), ("a run that publishes", "console")])
def test_nothing_that_is_written_holds_the_token(
    hub: HubServer, tmp_path: Path, output: Path, run: str, log_format: str
) -> None:
    code, variables = RUNS[run]
    hub.fail(Status(503), path="/tree/|/commit/", times=1)  # the library's own talk of a retry
    home, before = tmp_path / "home", files_of(ROOT)
    talk = {"LOG_LEVEL": "DEBUG", "LOG_FORMAT": log_format, "HF_DEBUG": "1", "HF_HUB_VERBOSITY": "debug", "HF_HOME": home}
    given = {**ECHO, "DATASET_ID": "ana/d", "OUTPUT_DIR": output, **hub.environment(TOKEN), **talk, **variables}
    with start_job(**given) as process:
        out, err = process.communicate(timeout=100)
    assert process.returncode == code, out
    assert "run_finished" in out
    assert TOKEN not in out
    assert TOKEN not in err
    written = [path for path, time in files_of(ROOT).items() if before.get(path) != time]
    kept = [path for folder in (output, home) if folder.exists() for path in folder.rglob("*") if path.is_file()]
    assert len(kept) > 4 or code
    assert [path for path in [*written, *kept] if TOKEN.encode() in path.read_bytes()] == []


def test_the_library_would_show_what_it_sends(hub: HubServer, tmp_path: Path, output: Path) -> None:
    """The test above looks at a run that talks: the library's lines of each request are among its own, in the same format."""
    talk = {"LOG_LEVEL": "DEBUG", "LOG_FORMAT": "json", "HF_DEBUG": "1", "HF_HOME": tmp_path / "home"}
    with start_job(**{**ECHO, "DATASET_ID": "ana/d", "OUTPUT_DIR": output, **hub.environment(TOKEN), **talk}) as process:
        out, err = process.communicate(timeout=100)
    assert (process.returncode, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    curls = [line["event"] for line in lines if line["logger"].startswith("huggingface_hub") and "curl" in line["event"]]
    assert curls
    assert any("authorization: <TOKEN>" in curl for curl in curls)


def test_nobody_but_the_hub_hears_of_the_run(hub: HubServer, output: Path) -> None:
    """All https goes to a proxy here, and the Hub is spoken to without one."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0)
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        names = {"DATASET_ID": "ana/d", "OUTPUT_DIR": output, "HUB_NAMESPACE": "ana", "HTTPS_PROXY": address}
        outcome = run_job(**{**ECHO, **names, **hub.environment(TOKEN)})
        assert outcome.code == 0, outcome.last
        with pytest.raises(BlockingIOError):
            proxy.accept()
