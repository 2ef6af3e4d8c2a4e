"""What can go wrong between a client and the Hub, and the rules that say when it does.

A fault acts `before` a request is handled (and may answer in its stead) or `after` (on the answer).
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from tests.hub_server.blobs import flipped
from tests.hub_server.messages import Bytes, Content, Cut, Request, Response


class Fault:
    """Does nothing; the faults below override one of the two."""

    def before(self, request: Request) -> Response | None:
        """An answer in place of the route's, None to go on."""
        del request
        return None

    def after(self, request: Request, response: Response) -> Response:
        del request
        return response


@dataclass(frozen=True, slots=True)
class Status(Fault):
    """Answer with a status; nothing is done."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""

    def before(self, request: Request) -> Response:
        del request
        return Response(self.status, self.headers, Bytes(self.body.encode()))


@dataclass(frozen=True, slots=True)
class Reset(Fault):
    """Take the request, do nothing, reset the connection (RST).

    With `unread` at once, while the client is still sending: then it depends on the moment whether the client sees the reset,
    a broken pipe or only the end of the connection.
    """

    unread: bool = False

    def before(self, request: Request) -> Response:
        del request
        return Response(cut=Cut(reset=True, is_unread=self.unread))


@dataclass(frozen=True, slots=True)
class LoseAnswer(Fault):
    """Do what was asked, then reset the connection without an answer."""

    def after(self, request: Request, response: Response) -> Response:
        del request
        return replace(response, cut=Cut(reset=True))


@dataclass(frozen=True, slots=True)
class CutAnswer(Fault):
    """Send the head and the first `after` bytes of the body, then reset the connection, or close it in order."""

    after_bytes: int
    reset: bool = False

    def after(self, request: Request, response: Response) -> Response:
        del request
        return replace(response, cut=Cut(self.reset, self.after_bytes))


@dataclass(frozen=True, slots=True)
class Truncate(Fault):
    """Send the first `keep` bytes of the body as if they were all of it."""

    keep: int

    def after(self, request: Request, response: Response) -> Response:
        del request
        return replace(response, content=_Truncated(response.content, self.keep))


@dataclass(frozen=True, slots=True)
class CorruptDownload(Fault):
    """Change one byte in the middle of the body; its size stays."""

    def after(self, request: Request, response: Response) -> Response:
        del request
        return replace(response, content=_Corrupt(response.content))


@dataclass(frozen=True, slots=True)
class CorruptUpload(Fault):
    """Change one byte of each file that the request stores, after its hash was checked: sizes and known hashes stay."""

    def before(self, request: Request) -> None:
        request.is_corrupting = True


@dataclass(frozen=True, slots=True)
class Delay(Fault):
    """Wait before the request is handled, or with `done` between doing it and answering."""

    seconds: float
    done: bool = False

    def before(self, request: Request) -> None:
        if not self.done:
            request.pause(self.seconds)

    def after(self, request: Request, response: Response) -> Response:
        if self.done:
            request.pause(self.seconds)
        return response


@dataclass(frozen=True, slots=True)
class Call(Fault):
    """Call a function before the request is handled: to commit something else in between, to look at the moment."""

    function: Callable[[Request], object]

    def before(self, request: Request) -> None:
        self.function(request)


@dataclass(slots=True)
class Rule:
    """When a fault happens: to requests of this method (None for any) whose path and query hold this pattern."""

    fault: Fault
    method: str | None = None
    path: str = ""
    times: int | None = 1
    """How often, None for always."""
    skip: int = 0
    """How many matching requests are spared first."""
    hits: int = 0
    """How often it happened."""

    def matches(self, method: str, target: str) -> bool:
        return self.method in (None, method) and re.search(self.path, target) is not None

    def strike(self) -> bool:
        """Count a matching request. Whether the fault happens to it."""
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True


class Rules:
    """All rules of a server, in the order they were made. Several may strike one request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []

    def add(self, rule: Rule) -> Rule:
        re.compile(rule.path)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def strike(self, method: str, target: str) -> list[Fault]:
        """The faults of one request."""
        with self._lock:
            return [rule.fault for rule in self._rules if rule.matches(method, target) and rule.strike()]


@dataclass(frozen=True, slots=True)
class _Truncated:
    content: Content
    keep: int

    @property
    def size(self) -> int:
        return min(self.keep, self.content.size)

    def chunks(self) -> Iterator[bytes]:
        yield from limited(self.content.chunks(), self.size)


@dataclass(frozen=True, slots=True)
class _Corrupt:
    content: Content

    @property
    def size(self) -> int:
        return self.content.size

    def chunks(self) -> Iterator[bytes]:
        position, middle = 0, self.size // 2
        for chunk in self.content.chunks():
            place = middle - position
            position += len(chunk)
            yield chunk[:place] + flipped(chunk[place : place + 1]) + chunk[place + 1 :] if 0 <= place < len(chunk) else chunk


def limited(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The first `size` bytes."""
    for chunk in chunks:
        if not size:
            return
        yield chunk[:size]
        size -= len(chunk[:size])
