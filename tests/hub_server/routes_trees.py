"""Looking into a repository: tree, paths-info, commits."""

from collections.abc import Sequence
from urllib.parse import urlencode

from tests.hub_server.context import Context
from tests.hub_server.errors import HubError
from tests.hub_server.messages import Request, Response, json_response
from tests.hub_server.routes_repos import as_date
from tests.hub_server.trees import entry, listing


def tree(context: Context, request: Request) -> Response:
    repository = context.readable(request)
    commit = repository.find(request.params["revision"])
    is_recursive = request.query.get("recursive", "").lower() in ("true", "1")
    entries = listing(commit.tree, request.params.get("path", "").strip("/"), recursive=is_recursive)
    return _page(context, request, entries, {"X-Repo-Commit": commit.oid})


def paths_info(context: Context, request: Request) -> Response:
    """The body is a form. A path that is not there is left out."""
    files = context.readable(request).find(request.params["revision"]).tree
    found = []
    for path in request.form().get("paths", []):
        try:
            found.append(entry(files, path.strip("/")))
        except HubError:
            continue
    return json_response(found)


def commits(context: Context, request: Request) -> Response:
    history = context.readable(request).history(request.params["revision"])
    told = [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.message,
            "authors": [{"user": commit.author, "avatar": ""}],
            "date": as_date(commit.date),
        }
        for commit in history
    ]
    return _page(context, request, told, {"X-Total-Count": str(len(told))})


def _page(context: Context, request: Request, items: Sequence[object], headers: dict[str, str]) -> Response:
    """One page of a list; a Link leads to the next."""
    start = int(request.query.get("cursor", "0"))
    end = start + context.page_size
    if end < len(items):
        query = urlencode(request.query | {"cursor": str(end)})
        headers = headers | {"Link": f'<{context.url}{request.path}?{query}>; rel="next"'}
    return json_response(items[start:end], headers=headers)
