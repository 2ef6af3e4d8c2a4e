"""Repositories as a whole: create, delete, information, branches, tags."""

from datetime import UTC, datetime
from typing import Any

import yaml

from tests.hub_server.context import Context
from tests.hub_server.errors import HubError, login_required, repository_not_found
from tests.hub_server.messages import Request, Response, json_response
from tests.hub_server.routes_account import card_data
from tests.hub_server.trees import Tree, siblings


def create(context: Context, request: Request) -> Response:
    wanted, repo_id = _named(request)
    kind = wanted.get("type", "model")
    context.require_write(request, kind, repo_id)
    try:
        repository = context.store.create(kind, repo_id, private=wanted.get("visibility") == "private")
    except HubError as error:
        existing = context.store.find(kind, repo_id)
        if existing is None:
            raise
        return json_response({"error": error.message, "url": context.web_url(existing)}, error.status)
    return json_response({"url": context.web_url(repository), "name": repo_id, "id": repo_id})


def delete(context: Context, request: Request) -> Response:
    wanted, repo_id = _named(request)
    kind = wanted.get("type", "model")
    context.require_write(request, kind, repo_id)
    if context.store.find(kind, repo_id) is None:
        raise repository_not_found()
    context.store.delete(kind, repo_id)
    return Response()


def info(context: Context, request: Request) -> Response:
    """What anybody may know of a public repository, gated or not."""
    repository = context.readable(request)
    commit = repository.find(request.params.get("revision", "main"))
    told: dict[str, Any] = {
        "_id": repository.id,
        "id": repository.id,
        "author": repository.namespace,
        "sha": commit.oid,
        "lastModified": as_date(commit.date),
        "private": repository.private,
        "gated": repository.gated,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": siblings(commit.tree, blobs="blobs" in request.query),
    }
    if repository.kind == "model":
        told["modelId"] = repository.id
    if card := _card(commit.tree):
        told["cardData"] = card
    return json_response(told, headers={"X-Repo-Commit": commit.oid})


def refs(context: Context, request: Request) -> Response:
    repository = context.readable(request)
    return json_response(
        {
            "branches": [_ref("heads", name, oid) for name, oid in repository.branches.items()],
            "tags": [_ref("tags", name, oid) for name, oid in repository.tags.items()],
            "converts": [],
            "pullRequests": [],
        }
    )


def create_branch(context: Context, request: Request) -> Response:
    repository = context.writable(request)
    repository.create_branch(request.params["name"], request.json().get("startingPoint", "main"))
    return Response(201)


def delete_branch(context: Context, request: Request) -> Response:
    context.writable(request).delete_branch(request.params["name"])
    return Response()


def create_tag(context: Context, request: Request) -> Response:
    context.writable(request).create_tag(request.json()["tag"], request.params["revision"])
    return Response(201)


def as_date(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _named(request: Request) -> tuple[dict[str, Any], str]:
    """What create and delete name in their body; without a namespace it is the caller's own."""
    if request.caller.name is None:
        raise login_required()
    wanted: dict[str, Any] = request.json()
    return wanted, f"{wanted.get('organization') or request.caller.name}/{wanted['name']}"


def _ref(folder: str, name: str, oid: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": oid}


def _card(tree: Tree) -> Any:
    readme = tree.get("README.md")
    if readme is None:
        return None
    try:
        return card_data(b"".join(readme.blob.chunks()).decode())
    except (yaml.YAMLError, UnicodeDecodeError):
        return None
