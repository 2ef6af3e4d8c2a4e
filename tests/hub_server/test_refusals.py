"""What no right client sends: refused with a reason, and nothing is changed."""

import hashlib
import json
from base64 import b64encode
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.hub_server import HubServer, Repository
from tests.hub_server.operations import TABLE

HEADER = {"key": "header", "value": {"summary": "Change", "description": ""}}
NEW = TABLE[:100] + b"new"
OID = hashlib.sha256(NEW).hexdigest()


def send(method: str, url: str, body: object = b"", token: str | None = "hf_ana") -> tuple[int, Any]:
    """Status and JSON, or bytes where it is none. Lists go as one JSON object a line."""
    parts = urlsplit(url)
    if isinstance(body, list):
        body = "\n".join(json.dumps(line) for line in body).encode()
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection = HTTPConnection(parts.netloc, timeout=10)
    connection.request(method, parts.path, sent, {"Authorization": f"Bearer {token}"} if token else {})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, json.loads(content) if "json" in response.getheader("Content-Type", "") else content


def planned(hub: HubServer) -> Any:
    """What the server plans for an upload of `NEW`."""
    body = {"operation": "upload", "objects": [{"oid": OID, "size": len(NEW)}]}
    return send("POST", f"{hub.url}/datasets/ana/d.git/info/lfs/objects/batch", body)[1]["objects"][0]["actions"]


def file(path: str, content: str) -> dict[str, object]:
    return {"key": "file", "value": {"path": path, "content": content, "encoding": "base64"}}


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "needs a header"),
        ([{"key": "header", "value": {"summary": ""}}], "needs a header"),
        ([HEADER, {"key": "rename", "value": {}}], "unknown operation 'rename'"),
        ([HEADER, file("a", "%%%")], "a: not base64"),
        ([HEADER, file("../a", "")], "not a path"),
        ([HEADER, file("data", "")], "both a file and a folder"),
        ([HEADER, {"key": "lfsFile", "value": {"path": "a", "oid": OID, "size": len(NEW)}}], "LFS pointer pointed to"),
    ],
)
def test_a_commit_that_is_none(hub: HubServer, repository: Repository, lines: list[object], reason: str) -> None:
    head = repository.head()
    status, told = send("POST", f"{hub.url}/api/datasets/ana/d/commit/main", lines)
    assert (status, reason in told["error"]) == (400, True)
    assert repository.head() == head


def test_an_lfs_file_of_another_size(hub: HubServer, repository: Repository) -> None:
    known = {"path": "x.parquet", "oid": hashlib.sha256(TABLE).hexdigest()}
    for size, status in ((4999, 400), (5000, 200)):
        lines = [HEADER, {"key": "lfsFile", "value": known | {"size": size}}]
        assert send("POST", f"{hub.url}/api/datasets/ana/d/commit/main", lines)[0] == status


def test_a_commit_where_a_later_operation_fails_is_not_done_in_part(hub: HubServer, repository: Repository) -> None:
    head = repository.head()
    lines = [HEADER, file("a", b64encode(b"a").decode()), {"key": "deletedFile", "value": {"path": "none"}}]
    assert send("POST", f"{hub.url}/api/datasets/ana/d/commit/main", lines)[0] == 404
    assert repository.head() == head


def test_an_upload_of_something_else(hub: HubServer, repository: Repository) -> None:
    actions = planned(hub)
    for body in (NEW[:-1], NEW[:-1] + b"x"):
        status, told = send("PUT", actions["upload"]["href"], body, token=None)
        assert (status, told["error"].partition(":")[0]) == (400, "BadDigest")
        assert send("POST", actions["verify"]["href"], {"oid": OID, "size": len(NEW)})[0] == 404
    assert send("PUT", actions["upload"]["href"], NEW, token=None)[0] == 200
    assert send("POST", actions["verify"]["href"], {"oid": OID, "size": len(NEW)})[0] == 200
    assert send("POST", actions["verify"]["href"], {"oid": OID, "size": len(NEW) + 1})[0] == 404


def test_parts_that_were_not_sent() -> None:
    with HubServer(part_size=60) as hub:
        hub.add_user("ana", token="hf_ana")
        repository = hub.add_repo("dataset", "ana/d")
        upload = planned(hub)["upload"]
        assert upload["header"]["chunk_size"] == "60"
        send("PUT", upload["header"]["1"], NEW[:60], token=None)
        wrong = {"oid": OID, "parts": [{"partNumber": 1, "etag": "x"}, {"partNumber": 2, "etag": "y"}]}
        status, told = send("POST", upload["href"], wrong, token=None)
        assert (status, "InvalidPart" in told["error"]) == (400, True)
        assert OID not in repository.objects


def test_what_the_storage_does_not_have(hub: HubServer, repository: Repository) -> None:
    assert send("PUT", f"{hub.storage_url}/uploads/guess", NEW, token=None)[0] == 403
    assert send("GET", f"{hub.storage_url}/objects/{repository.scope}/{OID}", token=None)[0] == 403
    assert send("GET", f"{hub.storage_url}/api/whoami-v2")[0] == 404
    assert send("POST", f"{hub.url}/datasets/ana/d.git/info/lfs/objects/batch", {"operation": "download"})[0] == 400


def test_whoami_and_creation_need_a_login(hub: HubServer) -> None:
    assert send("GET", f"{hub.url}/api/whoami-v2", token=None)[0] == 401
    assert send("POST", f"{hub.url}/api/repos/create", {"name": "d"}, token=None)[0] == 401
    assert send("POST", f"{hub.url}/api/repos/create", {"name": "d", "type": "space"})[0] == 400
    assert send("DELETE", f"{hub.url}/api/repos/delete", {"name": "d"})[0] == 404


@pytest.mark.parametrize("card", ["no metadata", "---\nopen", "---\n---\nempty", b"\xff\xfe", "---\na: [1\n---\n"])
def test_a_card_without_metadata(hub: HubServer, card: str | bytes) -> None:
    hub.add_repo("model", "ana/m", files={"README.md": card})
    assert "cardData" not in send("GET", f"{hub.url}/api/models/ana/m")[1]


def test_a_body_that_is_not_json(hub: HubServer) -> None:
    status, told = send("POST", f"{hub.url}/api/validate-yaml", b"{")
    assert (status, told["error"].startswith("not JSON")) == (400, True)


def test_a_repository_that_is_not_there(hub: HubServer) -> None:
    with pytest.raises(KeyError, match="dataset ana/none"):
        hub.repo("dataset", "ana/none")
