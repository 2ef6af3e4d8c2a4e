"""Rules and faults, without a connection."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import Message
from io import BytesIO

import pytest

from tests.hub_server import (
    Call,
    CorruptDownload,
    CorruptUpload,
    CutAnswer,
    Delay,
    Fault,
    LoseAnswer,
    Reset,
    Rule,
    Status,
    Truncate,
)
from tests.hub_server.faults import Rules
from tests.hub_server.messages import Bytes, Cut, Incoming, Request, Response

PIECES = [(b"content",), (b"con", b"", b"tent"), (b"cont", b"ent"), tuple(bytes([byte]) for byte in b"content")]


@dataclass(frozen=True)
class Pieces:
    """A body of several chunks."""

    pieces: tuple[bytes, ...]

    @property
    def size(self) -> int:
        return sum(map(len, self.pieces))

    def chunks(self) -> Iterator[bytes]:
        yield from self.pieces


def request(waits: list[float] | None = None) -> Request:
    headers = Message()
    pause = (waits if waits is not None else []).append
    return Request("POST", "/api/models/ana/m/commit/main?a=b", "hub", headers, Incoming(BytesIO(), headers), pause)


def strikes(rules: Rules, *targets: str, method: str = "GET") -> list[int]:
    return [len(rules.strike(method, target)) for target in targets]


def test_a_rule_spares_first_and_ends_after_its_times() -> None:
    rules = Rules()
    rule = rules.add(Rule(Reset(), times=2, skip=1))
    assert strikes(rules, "/a", "/b", "/c", "/d") == [0, 1, 1, 0]
    assert rule.hits == 2


def test_a_rule_may_last() -> None:
    rules = Rules()
    rules.add(Rule(Reset(), times=None))
    assert strikes(rules, *["/a"] * 5) == [1] * 5
    rules.clear()
    assert strikes(rules, "/a") == [0]


def test_a_rule_looks_at_method_path_and_query() -> None:
    rules = Rules()
    rules.add(Rule(Reset(), "GET", r"/tree/.*recursive=true", times=None))
    assert strikes(rules, "/x/tree/main?recursive=true", "/x/tree/main", "/x/refs") == [1, 0, 0]
    assert strikes(rules, "/x/tree/main?recursive=true", method="POST") == [0]


def test_requests_that_do_not_match_are_not_counted() -> None:
    rules = Rules()
    rules.add(Rule(Reset(), path="/b$", skip=1))
    assert strikes(rules, "/a", "/b", "/a", "/b", "/b") == [0, 0, 0, 1, 0]


def test_several_rules_strike_one_request_in_their_order() -> None:
    rules = Rules()
    first, second = Status(500), Status(503)
    rules.add(Rule(first))
    rules.add(Rule(second, times=None))
    assert rules.strike("GET", "/") == [first, second]
    assert rules.strike("GET", "/") == [second]


def test_a_rule_counts_right_among_threads() -> None:
    rules = Rules()
    rule = rules.add(Rule(Reset(), times=100))
    with ThreadPoolExecutor(8) as pool:
        struck = sum(len(faults) for faults in pool.map(lambda _: rules.strike("GET", "/"), range(500)))
    assert struck == rule.hits == 100


def test_a_pattern_must_be_one() -> None:
    with pytest.raises(re.error, match="unterminated"):
        Rules().add(Rule(Reset(), path="("))


def test_some_faults_answer_instead() -> None:
    status = Status(503, {"Retry-After": "2"}, "down").before(request())
    assert status == Response(503, {"Retry-After": "2"}, Bytes(b"down"))
    assert Reset().before(request()).cut == Cut(reset=True)
    assert Reset(unread=True).before(request()).cut == Cut(reset=True, is_unread=True)
    going_on: list[Fault] = [LoseAnswer(), CutAnswer(3), Truncate(3), CorruptDownload(), CorruptUpload(), Delay(1), Call(print)]
    assert [fault.before(request()) for fault in going_on] == [None] * 7


def test_some_faults_cut_the_answer() -> None:
    whole = Response(200, {"ETag": "x"}, Bytes(b"content"))
    assert LoseAnswer().after(request(), whole).is_unanswered
    assert CutAnswer(3).after(request(), whole).cut == Cut(reset=False, after=3)
    assert CutAnswer(0, reset=True).after(request(), whole).cut == Cut(reset=True, after=0)
    assert not CutAnswer(0).after(request(), whole).is_unanswered


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("keep", [0, 3, 7, 8])
def test_a_truncated_body_is_its_beginning(pieces: tuple[bytes, ...], keep: int) -> None:
    content = Truncate(keep).after(request(), Response(content=Pieces(pieces))).content
    assert b"".join(content.chunks()) == b"content"[:keep]
    assert content.size == min(keep, 7)


@pytest.mark.parametrize("pieces", PIECES)
def test_a_corrupt_body_differs_in_its_middle(pieces: tuple[bytes, ...]) -> None:
    content = CorruptDownload().after(request(), Response(content=Pieces(pieces))).content
    assert content.size == 7
    assert b"".join(content.chunks()) == b"con" + bytes([ord("t") ^ 0xFF]) + b"ent"


def test_an_empty_body_cannot_be_corrupted() -> None:
    content = CorruptDownload().after(request(), Response()).content
    assert b"".join(content.chunks()) == b""


def test_an_upload_is_marked_to_be_corrupted() -> None:
    asked = request()
    CorruptUpload().before(asked)
    assert asked.is_corrupting


def test_a_delay_is_before_or_after() -> None:
    waits: list[float] = []
    Delay(2).before(request(waits))
    Delay(3).after(request(waits), Response())
    Delay(4, done=True).before(request(waits))
    Delay(5, done=True).after(request(waits), Response())
    assert waits == [2, 5]


def test_a_function_is_called_with_the_request() -> None:
    seen: list[str] = []
    Call(lambda asked: seen.append(asked.path)).before(request())
    assert seen == ["/api/models/ana/m/commit/main"]
