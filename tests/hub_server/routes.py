"""All addresses of the server, and the way from a request to its route."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.hub_server import routes_account, routes_commits, routes_files, routes_lfs, routes_repos, routes_trees
from tests.hub_server.context import Context
from tests.hub_server.errors import HubError
from tests.hub_server.messages import Origin, Request, Response

_REPO = r"(?P<repo>[^/]+/[^/]+)"
_WEB = rf"/(?:(?P<kind>datasets)/)?{_REPO}"
_API = rf"/api/(?P<kind>models|datasets)/{_REPO}"
_REVISION = r"(?P<revision>[^/]+)"
_UPLOAD = r"uploads/(?P<upload>[^/]+)"


@dataclass(frozen=True, slots=True)
class Route:
    """Patterns match the raw path: a slash in a revision or branch is %2F there."""

    origin: Origin
    method: str
    pattern: re.Pattern[str]
    answer: Callable[[Context, Request], Response]


def _hub(method: str, pattern: str, answer: Callable[[Context, Request], Response]) -> Route:
    return Route("hub", method, re.compile(pattern), answer)


def _storage(method: str, pattern: str, answer: Callable[[Context, Request], Response]) -> Route:
    return Route("storage", method, re.compile(pattern), answer)


ROUTES = [
    _hub("GET", r"/api/whoami-v2", routes_account.whoami),
    _hub("POST", r"/api/validate-yaml", routes_account.validate_yaml),
    _hub("GET", rf"{_API}/auth-check", routes_account.check_read),
    _hub("GET", rf"{_API}/auth-check/write", routes_account.check_write),
    _hub("POST", r"/api/repos/create", routes_repos.create),
    _hub("DELETE", r"/api/repos/delete", routes_repos.delete),
    _hub("GET", _API, routes_repos.info),
    _hub("GET", rf"{_API}/revision/{_REVISION}", routes_repos.info),
    _hub("GET", rf"{_API}/refs", routes_repos.refs),
    _hub("POST", rf"{_API}/branch/(?P<name>[^/]+)", routes_repos.create_branch),
    _hub("DELETE", rf"{_API}/branch/(?P<name>[^/]+)", routes_repos.delete_branch),
    _hub("POST", rf"{_API}/tag/{_REVISION}", routes_repos.create_tag),
    _hub("GET", rf"{_API}/tree/{_REVISION}(?:/(?P<path>.*))?", routes_trees.tree),
    _hub("POST", rf"{_API}/paths-info/{_REVISION}", routes_trees.paths_info),
    _hub("GET", rf"{_API}/commits/{_REVISION}", routes_trees.commits),
    _hub("POST", rf"{_API}/preupload/{_REVISION}", routes_commits.preupload),
    _hub("POST", rf"{_API}/commit/{_REVISION}", routes_commits.commit),
    _hub("POST", rf"{_WEB}\.git/info/lfs/objects/batch", routes_lfs.batch),
    _hub("POST", rf"{_WEB}\.git/info/lfs/objects/verify", routes_lfs.verify),
    _hub("POST", rf"/api/{_UPLOAD}/complete", routes_lfs.complete),
    _hub("GET", rf"{_WEB}/resolve/{_REVISION}/(?P<path>.+)", routes_files.resolve),
    _storage("PUT", rf"/{_UPLOAD}", routes_lfs.put_object),
    _storage("PUT", rf"/{_UPLOAD}/(?P<number>\d+)", routes_lfs.put_part),
    _storage("GET", rf"/objects/(?P<kind>models|datasets)/{_REPO}/(?P<oid>[0-9a-f]{{64}})", routes_files.get_object),
]


def dispatch(context: Context, request: Request) -> Response:
    """Raises: HubError where there is no such address, or the caller's token is not valid."""
    if request.origin == "hub":
        request.caller = context.access.authenticate(request.headers.get("Authorization"))
    method = "GET" if request.method == "HEAD" else request.method
    for route in ROUTES:
        if (route.origin, route.method) == (request.origin, method) and (match := route.pattern.fullmatch(request.path)):
            return route.answer(context, request.with_params(match.groupdict()))
    raise HubError(404, "Sorry, we can't find the page you are looking for.")
