"""Uploading LFS objects. The Hub plans and checks, the storage takes the bytes without credentials."""

from typing import Any

from tests.hub_server.blobs import Blob
from tests.hub_server.context import Context
from tests.hub_server.errors import HubError
from tests.hub_server.messages import Request, Response, json_response
from tests.hub_server.repository import Repository
from tests.hub_server.uploads import Upload, etag


def batch(context: Context, request: Request) -> Response:
    """Where to send each object; nowhere, if it is here already."""
    repository = context.writable(request)
    wanted = request.json()
    if wanted["operation"] != "upload":
        raise HubError(400, "this test server plans uploads only")
    objects = [_planned(context, repository, item["oid"], item["size"]) for item in wanted["objects"]]
    return json_response({"transfer": "basic", "objects": objects}, headers={"Content-Type": "application/vnd.git-lfs+json"})


def put_object(context: Context, request: Request) -> Response:
    upload = context.uploads.find(request.params["upload"])
    blob = context.blobs.write(request.body.chunks())
    _keep(context, request, upload, blob)
    return Response(headers={"ETag": etag(blob)})


def put_part(context: Context, request: Request) -> Response:
    upload = context.uploads.find(request.params["upload"])
    blob = context.blobs.write(request.body.chunks())
    upload.parts[int(request.params["number"])] = (tag := etag(blob), blob)
    return Response(headers={"ETag": tag})


def complete(context: Context, request: Request) -> Response:
    """Put the parts together, if they are the ones that the client believes it sent."""
    upload = context.uploads.find(request.params["upload"])
    named = [(part["partNumber"], part["etag"]) for part in request.json()["parts"]]
    if named != [(number, tag) for number, (tag, _) in sorted(upload.parts.items())]:
        raise HubError(400, "InvalidPart: the parts are not those that were uploaded")
    blob = context.blobs.write(chunk for number, _ in named for chunk in upload.parts[number][1].chunks())
    _keep(context, request, upload, blob)
    return json_response({"success": True})


def verify(context: Context, request: Request) -> Response:
    repository = context.writable(request)
    wanted = request.json()
    blob = repository.objects.get(wanted["oid"])
    if blob is None or blob.size != wanted["size"]:
        raise HubError(404, f"no object of {wanted['size']} bytes and sha256 {wanted['oid']}")
    return Response()


def _planned(context: Context, repository: Repository, oid: str, size: int) -> dict[str, Any]:
    plan: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
    if oid in repository.objects:
        return plan
    name = context.uploads.open(repository, oid, size)
    storage = f"{context.storage_url}/uploads/{name}"
    upload: dict[str, Any] = {"href": storage}
    if context.part_size is not None and size > context.part_size:
        numbers = range(1, -(-size // context.part_size) + 1)
        header = {"chunk_size": str(context.part_size)} | {str(number): f"{storage}/{number}" for number in numbers}
        upload = {"href": f"{context.url}/api/uploads/{name}/complete", "header": header}
    prefix = context.web_url(repository)
    return plan | {"actions": {"upload": upload, "verify": {"href": f"{prefix}.git/info/lfs/objects/verify"}}}


def _keep(context: Context, request: Request, upload: Upload, blob: Blob) -> None:
    upload.check(blob)
    if request.is_corrupting:
        context.blobs.corrupt(blob)
    upload.repository.objects[upload.oid] = blob
