"""What goes over the wire: a request whose body is a stream, and an answer that a fault may damage or cut short."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import parse_qs, unquote

from tests.hub_server.access import ANONYMOUS, Caller
from tests.hub_server.errors import HubError

CHUNK_BYTES = 1 << 20

Origin = Literal["hub", "storage"]


class Content(Protocol):
    """The body of an answer, of known size, sent in chunks."""

    @property
    def size(self) -> int: ...

    def chunks(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Bytes:
    """A body that is at hand."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def chunks(self) -> Iterator[bytes]:
        yield self.data


@dataclass(frozen=True, slots=True)
class FileSlice:
    """`size` bytes of a file, from `start`."""

    path: Path
    start: int
    size: int

    def chunks(self) -> Iterator[bytes]:
        left = self.size
        with self.path.open("rb") as file:
            file.seek(self.start)
            while left and (chunk := file.read(min(left, CHUNK_BYTES))):
                left -= len(chunk)
                yield chunk


@dataclass(frozen=True, slots=True)
class Cut:
    """Where the connection ends before the answer does: after the head and `after` bytes, or before anything at all."""

    reset: bool
    after: int | None = None
    """Bytes of the body that are sent, None for nothing, not even the head."""
    is_unread: bool = False
    """Whether the body of the request is left on the wire as well."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Content = Bytes(b"")
    cut: Cut | None = None

    @property
    def is_unanswered(self) -> bool:
        return self.cut is not None and self.cut.after is None


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    content_type = {"Content-Type": "application/json; charset=utf-8"}
    return Response(status, content_type | dict(headers or {}), Bytes(json.dumps(value, default=str).encode()))


def error_response(error: HubError) -> Response:
    """As the Hub words it: the sentence in a header and in the body, the code in a header."""
    headers = {"X-Error-Message": error.message}
    if error.code:
        headers["X-Error-Code"] = error.code
    return json_response({"error": error.message}, error.status, headers)


class Incoming:
    """The body of a request, read from the connection once, by length or by chunks."""

    def __init__(self, stream: BufferedIOBase, headers: Message) -> None:
        self._stream = stream
        self._is_chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
        self._left = int(headers.get("Content-Length", 0))
        self._chunks = self._by_chunks() if self._is_chunked else self._by_length()
        self.size = 0
        """Bytes read so far."""

    def chunks(self) -> Iterator[bytes]:
        """Raises: ConnectionError where the client went away in the middle."""
        for chunk in self._chunks:
            self.size += len(chunk)
            yield chunk

    def read(self) -> bytes:
        return b"".join(self.chunks())

    def drain(self) -> None:
        """Read what nobody read: the next request of the connection comes after it."""
        for _ in self.chunks():
            pass

    def _by_length(self) -> Iterator[bytes]:
        while self._left:
            chunk = self._stream.read(min(self._left, CHUNK_BYTES))
            if not chunk:
                raise ConnectionAbortedError("the client left in the middle of a body")
            self._left -= len(chunk)
            yield chunk

    def _by_chunks(self) -> Iterator[bytes]:
        while line := self._stream.readline():
            self._left = int(line.partition(b";")[0], 16)
            if not self._left:
                break
            yield from self._by_length()
            self._stream.readline()
        while self._stream.readline().strip():
            pass


@dataclass(slots=True)
class Request:
    """One request. Routes read `params` (the groups of their pattern, unquoted) and `caller`; faults set `is_corrupting`."""

    method: str
    target: str
    """Path and query as sent: a slash in a revision is %2F."""
    origin: Origin
    headers: Message
    body: Incoming
    pause: Callable[[float], None]
    """Wait so many seconds, or until the server stops."""
    params: Mapping[str, str] = field(default_factory=dict)
    caller: Caller = ANONYMOUS
    is_corrupting: bool = False
    """What this request stores is to be damaged."""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The last value of each parameter."""
        return {name: values[-1] for name, values in parse_qs(self.target.partition("?")[2]).items()}

    def json(self) -> Any:
        try:
            return json.loads(self.body.read())
        except ValueError as error:
            raise HubError(400, f"not JSON: {error}") from error

    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.read().decode())

    def with_params(self, params: Mapping[str, str | None]) -> "Request":
        self.params = {name: unquote(value) for name, value in params.items() if value is not None}
        return self
