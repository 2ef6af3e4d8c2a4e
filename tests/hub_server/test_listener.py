"""The connection: bodies, keep-alive, ranges, resets, bad requests; with http.client and bare sockets."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from email.message import Message
from http.client import HTTPConnection
from io import BytesIO

import pytest

from tests.hub_server import Call, CutAnswer, Delay, HubServer, Reset
from tests.hub_server.messages import Incoming

FILE = "/ana/m/resolve/main/a.txt"


@pytest.fixture
def connection(hub: HubServer) -> Iterator[HTTPConnection]:
    hub.add_repo("model", "ana/m", files={"a.txt": "0123456789"})
    with closing(HTTPConnection(address(hub), timeout=10)) as opened:
        yield opened


def get(connection: HTTPConnection, **headers: str) -> tuple[int, bytes, str | None]:
    connection.request("GET", FILE, headers=headers)
    response = connection.getresponse()
    return response.status, response.read(), response.getheader("Content-Range")


def send(connection: HTTPConnection, body: bytes) -> int:
    connection.request("PUT", "/nowhere", body=body)
    return connection.getresponse().status


def dial(hub: HubServer) -> socket.socket:
    host, port = address(hub).split(":")
    return socket.create_connection((host, int(port)))


def address(hub: HubServer) -> str:
    return hub.url.removeprefix("http://")


def incoming(raw: bytes, **headers: str) -> Incoming:
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return Incoming(BytesIO(raw), message)


def test_a_body_is_read_by_its_length() -> None:
    body = incoming(b"content, and the next request", Content_Length="7")
    assert (body.read(), body.size, body.read()) == (b"content", 7, b"")


def test_a_chunked_body_is_read_to_its_end() -> None:
    raw = BytesIO(b"4;x=y\r\ncont\r\n3\r\nent\r\n0\r\nTrailer: x\r\n\r\nGET /")
    headers = Message()
    headers["Transfer-Encoding"] = "chunked"
    assert Incoming(raw, headers).read() == b"content"
    assert raw.read() == b"GET /"


def test_a_body_that_ends_early_is_a_lost_client() -> None:
    with pytest.raises(ConnectionAbortedError):
        incoming(b"cont", Content_Length="7").read()


def test_one_connection_serves_many_requests(connection: HTTPConnection) -> None:
    for _ in range(3):
        connection.request("POST", "/nowhere", body=b"x" * 100_000)
        response = connection.getresponse()
        assert (response.status, b"can't find" in response.read()) == (404, True)
        connection.request("HEAD", FILE)
        response = connection.getresponse()
        assert (response.getheader("Content-Length"), response.read()) == ("10", b"")
    assert get(connection) == (200, b"0123456789", None)


@pytest.mark.parametrize(
    ("asked", "status", "body", "told"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=7-99", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_a_range_is_sent(connection: HTTPConnection, asked: str, status: int, body: bytes, told: str | None) -> None:
    assert get(connection, Range=asked) == (status, body, told)


def test_a_reset_may_come_before_the_body_is_read(hub: HubServer) -> None:
    hub.fail(Reset(unread=True))
    with closing(HTTPConnection(address(hub), timeout=10)) as connection, pytest.raises(ConnectionError):
        send(connection, b"x" * 50_000_000)
    assert [(seen.status, seen.body_size) for seen in hub.requests] == [(None, 0)]


@pytest.mark.parametrize("reset", [True, False])
def test_a_cut_answer_ends_with_a_reset_or_in_order(hub: HubServer, reset: bool) -> None:
    hub.add_repo("model", "ana/m", files={"a.txt": "0123456789"})
    hub.fail(CutAnswer(4, reset=reset))
    received, is_reset = b"", False
    with dial(hub) as plain:
        plain.sendall(f"GET {FILE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        try:
            while data := plain.recv(1000):
                received += data
        except ConnectionResetError:
            is_reset = True
    assert is_reset == reset
    assert b"Content-Length: 10\r\n" in received
    assert received.endswith(b"\r\n\r\n0123")


def test_a_client_that_leaves_is_no_bug(hub: HubServer) -> None:
    for sent in (b"", b"GET", b"POST /x HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"):
        with dial(hub) as plain:
            plain.sendall(sent)
    assert hub.requests == []


def test_stopping_does_not_wait_for_a_delay_or_an_idle_client() -> None:
    with HubServer() as hub:
        hub.fail(Delay(60))
        idle, waiting = dial(hub), dial(hub)
        waiting.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.1)
        started = time.monotonic()
    assert time.monotonic() - started < 5
    idle.close()
    waiting.close()


def test_a_bug_in_a_test_function_comes_out_at_the_end() -> None:
    server = HubServer()
    server.start()
    server.fail(Call(lambda _: 1 / 0))
    with closing(HTTPConnection(address(server), timeout=10)) as connection:
        connection.request("GET", "/")
        assert connection.getresponse().status == 500
    (bug,) = server.stop()
    assert isinstance(bug, ZeroDivisionError)
