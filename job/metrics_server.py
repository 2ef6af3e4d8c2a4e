"""Pages for machines over HTTP, beside the work of the process: it must never wait for whoever asks, nor be copied by a fork.

A fork copies the sockets as well. In the child, which is the engine's, they are closed: it outlives neither its parent nor
the port, but a client that waits for the end of an answer would wait for both.
"""

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

import structlog

from job.errors import Problem, SettingsError
from job.heartbeat import OutsideForks

SILENT_SECONDS = 5.0  # a client that sends or reads nothing for so long is left
MOST_CLIENTS = 64  # at once; the one that came first goes for another
_POLL_SECONDS = 0.1  # how long the end of the process may wait for the server's

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Page:
    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "text/plain; charset=utf-8"


MakePage = Callable[[], Page]


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    timeout = SILENT_SECONDS

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_POST(self) -> None:
        self._send(Page(b"GET or HEAD only\n", HTTPStatus.METHOD_NOT_ALLOWED), with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        make = self.server.pages.get(self.path.partition("?")[0])
        page = self._made(make) if make else Page(f"there are {', '.join(self.server.pages)}\n".encode(), HTTPStatus.NOT_FOUND)
        self._send(page, with_body=with_body)

    def _made(self, make: MakePage) -> Page:
        try:
            with self.server.outside_forks:
                return make()
        except Exception:  # whatever is wrong with a page is not to end the run
            log.debug("page_failed", path=self.path, exc_info=True)
            return Page(b"this page cannot be made: a bug\n", HTTPStatus.INTERNAL_SERVER_ERROR)

    def _send(self, page: Page, *, with_body: bool) -> None:
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        if page.status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if with_body:
            self.wfile.write(page.body)

    def version_string(self) -> str:
        """Not that of Python."""
        return "answers-job"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (its name there)
        """Probes come every few seconds: the log is the run's."""


class _Server(ThreadingMixIn, TCPServer):
    """A thread for each client."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listening: socket.socket, pages: Mapping[str, MakePage]) -> None:
        super().__init__(listening.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.pages = pages
        self.outside_forks = OutsideForks()
        self._clients: dict[int, socket.socket] = {}
        os.register_at_fork(after_in_child=self._leave_to_parent)

    def process_request(self, request: Any, client_address: Any) -> None:
        clients = [*self._clients]
        if len(clients) >= MOST_CLIENTS and (first := self._clients.pop(clients[0], None)):
            with suppress(OSError):  # it is gone already
                first.shutdown(socket.SHUT_RDWR)
        self._clients[id(request)] = request
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._clients.pop(id(request), None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave, or were left."""
        log.debug("client_left", client=client_address[0])

    def _leave_to_parent(self) -> None:
        for each in (self.socket, *self._clients.values()):
            with suppress(OSError):
                os.close(each.detach())


@contextmanager
def serving(listening: socket.socket, pages: Mapping[str, MakePage]) -> Iterator[None]:
    """Answer with these pages, by their paths, while the block runs; then nothing listens any more."""
    with _Server(listening, pages) as server:
        threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,), name="metrics", daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def listen(port: int) -> socket.socket:
    """On all interfaces, of IPv6 too where there is that: whoever asks a container comes from outside of it.

    port: 0 for any that is free. Raises: SettingsError where nothing can listen there.
    """
    try:
        if socket.has_dualstack_ipv6():
            with _going_on_without_ipv6():
                return socket.create_server(("::", port), family=socket.AF_INET6, backlog=MOST_CLIENTS, dualstack_ipv6=True)
        return socket.create_server(("", port), backlog=MOST_CLIENTS)
    except OSError as error:
        message = (
            f"nothing can listen there ({os.strerror(error.errno or 0)}): choose another, 0 for any that is free, or unset it"
        )
        raise SettingsError([Problem("METRICS_PORT", str(port), message)]) from error


@contextmanager
def _going_on_without_ipv6() -> Iterator[None]:
    """A kernel may know IPv6 and have it switched off."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise
