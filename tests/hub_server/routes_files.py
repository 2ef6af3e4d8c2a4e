"""Downloading: the Hub sends regular files itself and redirects to the storage, another origin, for LFS files."""

import re

from tests.hub_server.blobs import Blob
from tests.hub_server.context import Context, kind_of
from tests.hub_server.errors import HubError
from tests.hub_server.messages import Bytes, FileSlice, Request, Response, error_response

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def resolve(context: Context, request: Request) -> Response:
    repository = context.downloadable(request)
    commit = repository.find(request.params["revision"])
    known = {"X-Repo-Commit": commit.oid}
    try:
        file = repository.file(request.params["path"], commit.oid)
    except HubError as error:
        missing = error_response(error)
        return Response(missing.status, dict(missing.headers) | known, missing.content)
    if not file.is_lfs:
        return _content(request, file.blob, known | {"ETag": f'"{file.oid}"', "Content-Type": "text/plain; charset=utf-8"})
    location = f"{context.storage_url}/objects/{repository.scope}/{file.blob.sha256}"
    linked = {"X-Linked-Etag": f'"{file.blob.sha256}"', "X-Linked-Size": str(file.size), "Location": location}
    return Response(302, known | linked | {"Accept-Ranges": "bytes"}, Bytes(f"Found. Redirecting to {location}".encode()))


def get_object(context: Context, request: Request) -> Response:
    """The storage asks for no credentials: the address is the right to read."""
    repository = context.store.find(kind_of(request.params["kind"]), request.params["repo"])
    blob = repository.objects.get(request.params["oid"]) if repository else None
    if blob is None:
        raise HubError(403, "AccessDenied")
    return _content(request, blob, {"ETag": f'"{blob.sha256}"', "Content-Type": "application/octet-stream"})


def _content(request: Request, blob: Blob, headers: dict[str, str]) -> Response:
    """All of a content, or the range that was asked for."""
    headers = headers | {"Accept-Ranges": "bytes"}
    asked = _RANGE.fullmatch(request.headers.get("Range", ""))
    if asked is None or asked.group() == "bytes=-":
        return Response(200, headers, FileSlice(blob.path, 0, blob.size))
    first, last = asked.groups()
    start = int(first) if first else max(blob.size - int(last), 0)
    end = min(int(last) + 1, blob.size) if first and last else blob.size
    if start >= end:
        return Response(416, headers | {"Content-Range": f"bytes */{blob.size}"})
    headers |= {"Content-Range": f"bytes {start}-{end - 1}/{blob.size}"}
    return Response(206, headers, FileSlice(blob.path, start, end - start))
