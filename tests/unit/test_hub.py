"""`resolve` against a small server that answers as the Hub does; in a process of its own, as the library reads the
address of the Hub when it is imported."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from job.hub import resolve
from job.records import Source
from tests.support import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_abcdefghijklmnop"
CASES = """
import json, sys
from job.errors import JobError
from job.hub import resolve
for kind, name, revision, token in json.loads(sys.argv[1]):
    try:
        source = resolve(kind, name, revision, token)
        print(json.dumps({"name": source.name, "commit": source.commit, "local": source.local}))
    except JobError as error:
        print(json.dumps({"error": type(error).__name__, "code": error.exit_code, "message": str(error)}))
"""
LOOKUPS = {
    "model": ("model", "org/fine", "main", TOKEN),
    "dataset": ("dataset", "org/fine", "v2", None),
    "no commit": ("model", "org/no-commit", "main", None),
    "missing": ("dataset", "org/missing", "main", None),
    "no revision": ("model", "org/no-revision", "v9", None),
    "gated": ("model", "org/gated", "main", TOKEN),
    "forbidden": ("model", "org/forbidden", "main", TOKEN),
    "broken": ("model", "org/broken", "main", None),
    "silent": ("dataset", "org/silent", "main", None),
    "no name": ("model", "not a name", "main", None),
}
REFUSALS = {
    "missing": (404, "RepoNotFound"),
    "no-revision": (404, "RevisionNotFound"),
    "gated": (403, "GatedRepo"),
    "forbidden": (403, None),
    "broken": (500, None),
}


class _Hub(BaseHTTPRequestHandler):
    seen: list[tuple[str, str | None]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization")))
        kind = self.path.split("/")[4]
        if kind == "silent":
            self.close_connection = True
            return
        status, code = REFUSALS.get(kind, (200, None))
        name = f"org/{kind}"
        body = json.dumps({"id": name, "modelId": name} | ({} if kind == "no-commit" else {"sha": COMMIT})).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def outcomes() -> Mapping[str, Any]:
    """What each lookup came to, by its name, and under "seen" the requests that the server got."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        bare = {name: os.environ[name] for name in ("PATH", "HOME", "HF_HOME") if name in os.environ}
        found = subprocess.run(
            [sys.executable, "-c", CASES, json.dumps(list(LOOKUPS.values()))],
            cwd=ROOT,
            env=bare | {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_DISABLE_TELEMETRY": "1"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        server.shutdown()
        thread.join()
    assert found.returncode == 0, found.stderr
    return dict(zip(LOOKUPS, map(json.loads, found.stdout.splitlines()), strict=True)) | {"seen": _Hub.seen}


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_moving_name_is_resolved_to_its_commit(outcomes: Mapping[str, Any], kind: str) -> None:
    assert outcomes[kind] == {"name": "org/fine", "commit": COMMIT, "local": False}


def test_kind_revision_and_token_are_asked_for(outcomes: Mapping[str, Any]) -> None:
    assert ("/api/models/org/fine/revision/main", f"Bearer {TOKEN}") in outcomes["seen"]
    assert ("/api/datasets/org/fine/revision/v2", None) in outcomes["seen"]


@pytest.mark.parametrize(
    ("case", "error", "code", "message"),
    [
        (
            "missing",
            "SettingsError",
            78,
            "DATASET_ID='org/missing': no dataset of this name on the Hub, nor a file or folder here",
        ),
        ("no name", "SettingsError", 78, "MODEL_ID='not a name': no model of this name on the Hub"),
        ("no revision", "SettingsError", 78, "MODEL_REVISION='v9': org/no-revision has no such branch, tag or commit"),
        (
            "gated",
            "AccessError",
            77,
            "MODEL_ID=org/gated: is gated. Accept its terms on its page, with the account of HF_TOKEN.",
        ),
        ("forbidden", "AccessError", 77, "MODEL_ID=org/forbidden: the Hub refused access (403). Check HF_TOKEN."),
        ("broken", "HubUnavailableError", 69, "MODEL_ID=org/broken: the Hub answered 500; try again later."),
        ("silent", "HubUnavailableError", 69, "DATASET_ID=org/silent: the Hub did not answer: "),
        ("no commit", "HubUnavailableError", 69, "MODEL_ID=org/no-commit: the Hub named no commit; try again later."),
    ],
)
def test_a_refusal_says_whose_it_is_to_mend(
    outcomes: Mapping[str, Any], case: str, error: str, code: int, message: str
) -> None:
    found = outcomes[case]
    assert (found["error"], found["code"]) == (error, code)
    assert found["message"].startswith(message)


def test_the_token_is_in_no_message(outcomes: Mapping[str, Any]) -> None:
    assert TOKEN not in json.dumps({name: outcomes[name] for name in LOOKUPS})


def test_a_full_commit_needs_no_request() -> None:
    assert resolve("model", "org/model", COMMIT, None) == Source("org/model", COMMIT, local=False)
