"""Pages over HTTP, for clients of all kinds: nobody waits for one that is slow, and a fork leaves the sockets to its parent."""

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from job import metrics_server
from job.errors import SettingsError
from job.metrics_server import MOST_CLIENTS, SILENT_SECONDS, Page, listen, serving
from tests.scraping import SECONDS, ask

LARGE = 64 * 2**20  # bytes; more than the buffers between a server and its client hold


def _broken() -> Page:
    raise ValueError("a secret")


PAGES: Mapping[str, Callable[[], Page]] = {
    "/hello": lambda: Page(b"hello\n"),
    "/large": lambda: Page(bytes(LARGE)),
    "/broken": _broken,
}


@pytest.fixture
def port() -> Iterator[int]:
    listening = listen(0)
    with serving(listening, PAGES):
        yield listening.getsockname()[1]


@contextmanager
def connected(port: int, sent: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as client:
        client.sendall(sent)
        yield client


def received(client: socket.socket) -> bytes:
    found = b""
    with suppress(ConnectionError):
        while some := client.recv(65536):
            found += some
    return found


def test_a_page_is_given_with_its_length_and_type(port: int) -> None:
    answer = ask(port, "/hello?name[]=x")
    assert (answer.status, answer.text) == (200, "hello\n")
    assert answer.headers["Content-Length"] == str(len(answer.text))
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Server"] == "answers-job"


def test_head_is_the_same_without_the_page(port: int) -> None:
    got, head = ask(port, "/hello"), ask(port, "/hello", "HEAD")
    assert (head.status, head.text) == (200, "")
    assert head.headers["Content-Length"] == got.headers["Content-Length"]


def test_nothing_is_taken(port: int) -> None:
    answer = ask(port, "/hello", "POST")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert ask(port, "/hello", "DELETE").status == 501


@pytest.mark.parametrize("path", ["/", "/hello/", "/../hello", "/%68ello", "/HELLO"])
def test_other_paths_name_those_that_there_are(port: int, path: str) -> None:
    answer = ask(port, path)
    assert (answer.status, answer.text) == (404, "there are /hello, /large, /broken\n")


def test_a_page_that_cannot_be_made_is_an_answer_that_does_not_say_why(port: int) -> None:
    answer = ask(port, "/broken")
    assert answer.status == 500
    assert "secret" not in answer.text
    assert ask(port, "/hello").status == 200


@pytest.mark.parametrize(
    "garbage",
    [
        b"\r\n\r\n",
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",  # TLS
        b"GET " + b"/" * 70000 + b" HTTP/1.0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /hello HTTP/1.0\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"GET /hello HTTP/1.0\r\nContent-Length: -1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda garbage: garbage[:12],
)
def test_garbage_is_refused_or_left_and_the_next_one_is_answered(
    port: int, garbage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with connected(port, garbage) as client:
        client.shutdown(socket.SHUT_WR)
        received(client)
    assert ask(port, "/hello").status == 200
    assert capsys.readouterr() == ("", "")


def test_clients_that_say_nothing_or_do_not_read_keep_nobody_waiting(port: int) -> None:
    with ExitStack() as slow:
        for sent in (b"", b"GET /hel", b"GET /large HTTP/1.0\r\n\r\n"):
            for _ in range(5):
                slow.enter_context(connected(port, sent))
        assert ask(port, "/hello").status == 200


def test_clients_that_say_nothing_are_left_after_a_while(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    assert metrics_server._Handler.timeout == SILENT_SECONDS
    monkeypatch.setattr(metrics_server._Handler, "timeout", 0.05)
    with connected(port) as client:
        assert received(client) == b""


def test_of_too_many_clients_the_first_one_goes(port: int) -> None:
    with ExitStack() as held:
        first, *_ = [held.enter_context(connected(port)) for _ in range(MOST_CLIENTS)]
        assert ask(port, "/hello").status == 200
        first.settimeout(SILENT_SECONDS / 2)  # or it would be left for its silence
        assert received(first) == b""


def test_many_are_answered_at_once(port: int) -> None:
    with ThreadPoolExecutor(MOST_CLIENTS // 2) as pool:
        answers = list(pool.map(lambda _: ask(port, "/hello").status, range(500)))
    assert answers == [200] * 500


def test_the_port_is_free_afterwards_also_with_clients_that_wait() -> None:
    listening = listen(0)
    port = listening.getsockname()[1]
    with ExitStack() as held:
        with serving(listening, PAGES):
            held.enter_context(connected(port))
            assert ask(port, "/hello").status == 200
        with pytest.raises(ConnectionError):
            ask(port, "/hello")
        again = held.enter_context(listen(port))
        held.enter_context(serving(again, PAGES))
        assert ask(port, "/hello").status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_a_port_in_use_is_a_wrong_setting(host: str) -> None:
    with socket.create_server((host, 0)) as other, pytest.raises(SettingsError) as caught:
        listen(other.getsockname()[1])
    (problem,) = caught.value.problems
    assert problem.variable == "METRICS_PORT"
    assert "nothing can listen there (Address already in use)" in problem.message


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6 here")
def test_it_listens_to_ipv6_as_well(port: int) -> None:
    assert ask(port, "/hello", host="::1").status == 200


def _sockets() -> set[str]:
    """Those of this process, as the kernel names them."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the folder's own is gone by now
            found.add(str(descriptor.readlink()))
    return {each for each in found if each.startswith("socket:")}


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_leaves_the_sockets_to_its_parent() -> None:
    """Else the port would stay taken, and clients wait, for as long as the child lives."""
    making = threading.Event()

    def large() -> Page:
        making.set()
        return Page(bytes(LARGE))

    before = _sockets()
    listening = listen(0)
    with serving(listening, {**PAGES, "/large": large}):
        with connected(listening.getsockname()[1], b"GET /large HTTP/1.0\r\n\r\n"):
            assert making.wait(SECONDS)
            ours = _sockets() - before
            if not (child := os.fork()):
                os._exit(len(_sockets() & ours))
            left = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert ask(listening.getsockname()[1], "/hello").status == 200
    assert len(ours) == 3  # it listens, and each end of the connection
    assert left == 1  # the client's end, which is the test's
