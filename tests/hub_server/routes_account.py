"""Who am I, and may I: whoami, access checks, and the check of a card's metadata."""

from typing import Any

import yaml

from tests.hub_server.access import FineGrained, Rights
from tests.hub_server.context import Context
from tests.hub_server.errors import login_required
from tests.hub_server.messages import Request, Response, json_response

_PERMISSIONS = {"read": ["repo.content.read"], "write": ["repo.content.read", "repo.write"]}


def whoami(context: Context, request: Request) -> Response:
    del context
    caller = request.caller
    if caller.name is None:
        raise login_required()
    organisations = [
        {"type": "org", "id": name, "name": name, "fullname": name, "roleInOrg": role}
        for name, role in caller.roles.items()
        if name != caller.name
    ]
    token = {"displayName": "test"} | _token_rights(caller.rights)
    auth = {"type": "access_token", "accessToken": token}
    name = {"id": caller.name, "name": caller.name, "fullname": caller.name}
    return json_response({"type": "user", "orgs": organisations, "auth": auth} | name)


def check_read(context: Context, request: Request) -> Response:
    context.downloadable(request)
    return Response()


def check_write(context: Context, request: Request) -> Response:
    context.writable(request)
    return Response()


def validate_yaml(context: Context, request: Request) -> Response:
    """Needs no login. Invalid metadata is a 400 that lists the errors."""
    del context
    content: str = request.json()["content"]
    try:
        card_data(content)
    except yaml.YAMLError as error:
        return json_response({"errors": [{"message": f"Invalid YAML: {error}"}], "warnings": []}, 400)
    return json_response({"errors": [], "warnings": []})


def card_data(content: str) -> Any:
    """The metadata at the top of a card, None without. Raises: yaml.YAMLError."""
    lines = content.splitlines()
    if not lines or lines[0] != "---" or "---" not in lines[1:]:
        return None
    return yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))


def _token_rights(rights: Rights) -> dict[str, Any]:
    if not isinstance(rights, FineGrained):
        return {"role": rights}
    scoped = [{"entity": _entity(scope), "permissions": _PERMISSIONS[role]} for scope, role in sorted(rights.scopes.items())]
    return {"role": "fineGrained", "fineGrained": {"canReadGatedRepos": rights.gated, "global": [], "scoped": scoped}}


def _entity(scope: str) -> dict[str, str]:
    kind, _, name = scope.partition("/")
    return {"type": kind.removesuffix("s"), "name": name} if name else {"type": "user", "name": scope}
