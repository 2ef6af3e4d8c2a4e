"""Making a commit: preupload says which files go by LFS, commit takes the rest and the names of the uploaded objects."""

import base64
import binascii
import json
from typing import Any

from tests.hub_server.attributes import is_stored_by_lfs
from tests.hub_server.blobs import File
from tests.hub_server.context import Context
from tests.hub_server.errors import HubError
from tests.hub_server.messages import Request, Response, json_response
from tests.hub_server.repository import Repository
from tests.hub_server.trees import Delete, DeleteFolder, Operation, Put


def preupload(context: Context, request: Request) -> Response:
    repository = context.writable(request)
    _refuse_pull_request(request)
    revision = request.params["revision"]
    known, attributes = repository.find(revision).tree, repository.attributes(revision)
    files = [
        {
            "path": file["path"],
            "uploadMode": "lfs" if is_stored_by_lfs(file["path"], file["size"], attributes) else "regular",
            "shouldIgnore": False,
            "oid": known[file["path"]].content_id if file["path"] in known else None,
        }
        for file in request.json()["files"]
    ]
    return json_response({"files": files})


def commit(context: Context, request: Request) -> Response:
    """The body is one JSON object a line: a header, then the operations."""
    repository = context.writable(request)
    _refuse_pull_request(request)
    lines = [json.loads(line) for line in request.body.read().splitlines() if line.strip()]
    header = next((line["value"] for line in lines if line["key"] == "header"), None)
    if header is None or not header.get("summary"):
        raise HubError(400, "a commit needs a header with a summary")
    operations = [_operation(context, request, repository, line) for line in lines if line["key"] != "header"]
    done = repository.apply(
        operations,
        header["summary"],
        branch=request.params["revision"],
        message=header.get("description", ""),
        author=request.caller.name or "",
        parent=header.get("parentCommit"),
    )
    url = f"{context.web_url(repository)}/commit/{done.oid}"
    return json_response({"success": True, "commitOid": done.oid, "commitUrl": url, "hookOutput": ""})


def _operation(context: Context, request: Request, repository: Repository, line: dict[str, Any]) -> Operation:
    value = line["value"]
    match line["key"]:
        case "file":
            return Put(value["path"], _regular(context, request, value))
        case "lfsFile":
            return Put(value["path"], _uploaded(repository, value))
        case "deletedFile":
            return Delete(value["path"])
        case "deletedFolder":
            return DeleteFolder(value["path"])
        case unknown:
            raise HubError(400, f"unknown operation {unknown!r}")


def _regular(context: Context, request: Request, value: dict[str, Any]) -> File:
    try:
        content = base64.b64decode(value["content"], validate=True)
    except binascii.Error as error:
        raise HubError(400, f"{value['path']}: not base64") from error
    file = File.regular(context.blobs.write([content]))
    if request.is_corrupting:
        context.blobs.corrupt(file.blob)
    return file


def _uploaded(repository: Repository, value: dict[str, Any]) -> File:
    """An object that is here already. A copy on the server is sent without a size."""
    blob = repository.objects.get(value["oid"])
    if blob is None or value.get("size", blob.size) != blob.size:
        raise HubError(400, f"LFS pointer pointed to a file that does not exist: {value['path']} ({value['oid']})")
    return File.lfs(blob)


def _refuse_pull_request(request: Request) -> None:
    if "create_pr" in request.query:
        raise HubError(400, "this test server has no pull requests")
