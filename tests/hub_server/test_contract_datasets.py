"""The `datasets` library against the server, in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

from tests.hub_server import HubServer, datasets_client
from tests.support import ROOT

pytestmark = pytest.mark.slow


def test_datasets_pushes_loads_and_streams(hub: HubServer) -> None:
    command = [sys.executable, "-m", datasets_client.__name__, "ana/d"]
    variables = os.environ | hub.environment("hf_ana")
    client = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120)
    assert client.returncode == 0, client.stderr
    told = json.loads(client.stdout)
    assert told["loaded"] == told["streamed"] == datasets_client.ROWS
    repository = hub.repo("dataset", "ana/d")
    assert repository.private
    assert [commit.oid for commit in repository.history()][:-1] == [told["commit"]]
    files = {path: file.is_lfs for path, file in repository.find("main").tree.items()}
    shards = {f"data/test-0000{number}-of-00002.parquet": True for number in range(2)}
    assert files == {".gitattributes": False, "README.md": False} | shards
    assert hub.seen("GET", "/objects/")
    assert not any(seen.has_auth for seen in hub.requests if seen.origin == "storage")
