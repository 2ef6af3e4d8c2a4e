"""From a request to its answer, faults included, and the log of all requests. Knows no sockets."""

import threading
from dataclasses import dataclass

from tests.hub_server.context import Context
from tests.hub_server.errors import HubError
from tests.hub_server.faults import Rules
from tests.hub_server.messages import Origin, Request, Response, error_response
from tests.hub_server.routes import dispatch


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that the server got."""

    origin: Origin
    method: str
    path: str
    """With its query, as it was sent."""
    status: int | None
    """None where the connection was reset instead of an answer."""
    has_auth: bool
    """Whether it bore an Authorization header."""
    body_size: int
    """Bytes of its body that were read."""


class Application:
    def __init__(self, context: Context, rules: Rules) -> None:
        self._context = context
        self._rules = rules
        self._lock = threading.Lock()
        self._seen: list[Seen] = []
        self.bugs: list[Exception] = []
        """What went wrong in the server itself; such a request is answered with 500."""

    @property
    def seen(self) -> list[Seen]:
        with self._lock:
            return list(self._seen)

    def answer(self, request: Request) -> Response:
        """The answer, with the request in the log. Raises: ConnectionError where the client went away in the middle."""
        response = self._answer(request)
        if not (response.cut and response.cut.is_unread):
            request.body.drain()
        status = None if response.is_unanswered else response.status
        has_auth = "Authorization" in request.headers
        with self._lock:
            self._seen.append(Seen(request.origin, request.method, request.target, status, has_auth, request.body.size))
        return response

    def _answer(self, request: Request) -> Response:
        try:
            return self._with_faults(request)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 # the client must get an answer; `bugs` tells the test
            self.bugs.append(error)
            return error_response(HubError(500, f"bug in the test server: {error!r}"))

    def _with_faults(self, request: Request) -> Response:
        faults = self._rules.strike(request.method, request.target)
        for fault in faults:
            instead = fault.before(request)
            if instead is not None:
                return instead
        response = self._routed(request)
        for fault in faults:
            response = fault.after(request, response)
        return response

    def _routed(self, request: Request) -> Response:
        try:
            return dispatch(self._context, request)
        except HubError as error:
            return error_response(error)
