"""`python -m job.fetch`, in this process and as one of its own: what it leaves in the cache, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from job.errors import AccessError, SettingsError
from job.fetch import fetch
from tests.hub.conftest import Connect
from tests.hub_clients import TOKEN
from tests.hub_server import Delay, HubServer
from tests.support import ROOT, RunningJob, running
from tests.unit.builders import settings

COMMAND = [sys.executable, "-m", "job.fetch"]
WEIGHTS = 3000
MODEL: Mapping[str, str | bytes] = {
    "config.json": "{}",
    "a.safetensors": os.urandom(WEIGHTS),
    "b.safetensors": os.urandom(WEIGHTS),
    "pytorch_model.bin": os.urandom(500),
}
ADAPTER: Mapping[str, str | bytes] = {"adapter_config.json": "{}", "adapter_model.safetensors": os.urandom(700)}
STORAGE = "/objects/"


@pytest.fixture
def stocked(hub: HubServer) -> HubServer:
    """A Hub with a model and an adapter."""
    hub.add_repo("model", "ana/m", files=MODEL)
    hub.add_repo("model", "ana/lora", files=ADAPTER)
    return hub


def names(folder: object) -> set[str]:
    return {path.name for path in Path(str(folder)).iterdir() if path.name != ".gitattributes"}


def test_model_and_adapter_are_fetched_with_their_weights_and_no_other_form_of_them(
    stocked: HubServer, connect: Connect
) -> None:
    fetched = fetch(settings(MODEL_ID="ana/m", LORA_ID="ana/lora"), connect(stocked))
    assert names(fetched["model"]) == set(MODEL) - {"pytorch_model.bin"}
    assert names(fetched["adapter"]) == set(ADAPTER)
    assert fetched["weights_bytes"] == 2 * WEIGHTS + 700
    assert not stocked.seen("PUT")
    assert {seen.method for seen in stocked.requests} <= {"GET", "HEAD"}


def test_what_is_in_the_cache_is_not_fetched_again(stocked: HubServer, connect: Connect) -> None:
    first = fetch(settings(MODEL_ID="ana/m"), connect(stocked))
    before = len(stocked.seen("GET", STORAGE))
    assert fetch(settings(MODEL_ID="ana/m"), connect(stocked)) == first
    assert len(stocked.seen("GET", STORAGE)) == before


def test_a_folder_of_this_machine_is_only_looked_at(hub: HubServer, connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"12345")
    fetched = fetch(settings(MODEL_ID=tmp_path), connect(hub))
    assert (fetched["model"], fetched["weights_bytes"]) == (str(tmp_path), 5)
    assert hub.requests == []
    with pytest.raises(SettingsError, match=r"MODEL_ID=.*none.*no such folder"):
        fetch(settings(MODEL_ID=tmp_path / "none"), connect(hub))


def test_the_echo_engine_needs_nothing(hub: HubServer, connect: Connect) -> None:
    assert fetch(settings(MODEL_ID="ana/m", ENGINE="echo"), connect(hub)) == {"message": "ENGINE=echo needs no files"}
    assert hub.requests == []


def test_it_refuses_as_the_job_does(hub: HubServer, connect: Connect) -> None:
    hub.add_user("bo")
    hub.add_repo("model", "bo/gated", files=MODEL, gated="manual")
    hub.add_repo("model", "ana/empty", files={"config.json": "{}"})
    with pytest.raises(AccessError, match="MODEL_ID=bo/gated: is gated"):
        fetch(settings(MODEL_ID="bo/gated"), connect(hub))
    with pytest.raises(SettingsError, match="MODEL_ID='ana/empty': has no weights"):
        fetch(settings(MODEL_ID="ana/empty"), connect(hub))


def variables(hub: HubServer, **more: object) -> dict[str, object]:
    return {**hub.environment(TOKEN), "MODEL_ID": "ana/m", "DATASET_ID": "ana/rows", **more}


@pytest.mark.slow
def test_as_a_process_it_ends_with_the_code_of_its_last_line(stocked: HubServer, tmp_path: Path) -> None:
    for more, code in (({}, 0), ({"TEMPERATURE": "hot"}, 78), ({"MODEL_ID": "ana/none"}, 78)):
        with running(tmp_path / "log", variables(stocked, **more), COMMAND) as process:
            outcome = process.end()
        assert outcome.code == outcome.last["exit_code"] == code
        assert (outcome.last["event"], outcome.stderr) == ("run_finished", "")
        assert TOKEN not in json.dumps(outcome.events)


@pytest.mark.slow
def test_a_signal_ends_it_in_the_middle_of_a_download_and_the_next_one_goes_on(stocked: HubServer, tmp_path: Path) -> None:
    """The library itself would wait until all that it has begun is there."""
    stocked.fail(Delay(60), path=STORAGE, times=None)
    run = variables(stocked)
    with running(tmp_path / "log", run, COMMAND) as process:
        process.event("files_checked")
        process.until(lambda: stocked.seen("GET", "/resolve/") or None)
        _assert_low_priority(process)
        process.process.send_signal(signal.SIGTERM)
        at = time.monotonic()
        stopped = process.end()
    assert time.monotonic() - at < 5
    assert stopped.code == stopped.last["exit_code"] == 75
    assert stopped.last["message"].startswith("stopped by SIGTERM")
    stocked.recover()
    with running(tmp_path / "log", run, COMMAND) as process:
        assert process.end().code == 0


def _assert_low_priority(process: RunningJob) -> None:
    listed = subprocess.run(["ps", "-o", "ni=", "-p", str(process.process.pid)], cwd=ROOT, capture_output=True, text=True)
    assert int(listed.stdout) >= os.nice(0) + 10 or int(listed.stdout) == 19
