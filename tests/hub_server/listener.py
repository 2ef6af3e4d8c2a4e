"""HTTP over TCP, plain or TLS, on the loopback interface; answers can be cut short or replaced by a reset."""

import socket
import socketserver
import ssl
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.hub_server.faults import limited
from tests.hub_server.messages import Cut, Incoming, Origin, Request, Response

ADDRESS = "127.0.0.1"
_LINGER_ZERO = struct.pack("ii", 1, 0)
_CLIENT_WENT_AWAY = (ConnectionError, TimeoutError, ssl.SSLError)


class Listener(ThreadingHTTPServer):
    """One port and its connections, each with a thread that ends with `stop`."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, origin: Origin, tls: ssl.SSLContext | None) -> None:
        super().__init__((ADDRESS, 0), _Handler)
        self.origin = origin
        self.answer: Callable[[Request], Response] = _not_ready
        self.bugs: list[BaseException] = []
        self._tls = tls
        self._stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, name=f"test hub {origin}")

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{ADDRESS}:{self.server_address[1]}"

    def start(self, answer: Callable[[Request], Response]) -> None:
        self.answer = answer
        self._thread.start()

    def stop(self) -> None:
        """End all connections and wait for their threads."""
        self._stopping.set()
        self.shutdown()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)  # not that of TLS, which would disturb its thread
        self.server_close()
        self._thread.join()

    def pause(self, seconds: float) -> None:
        self._stopping.wait(seconds)

    def server_bind(self) -> None:
        """Without the look-up of a host name that http.server makes."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._tls:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._connections.add(connection)
        return connection, address

    def close_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Called in the except block of a connection's thread."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, _CLIENT_WENT_AWAY):
            self.bugs.append(error)


class _Handler(BaseHTTPRequestHandler):
    server: Listener
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()

    def do_GET(self) -> None:
        body = Incoming(self.rfile, self.headers)
        request = Request(self.command, self.path, self.server.origin, self.headers, body, self.server.pause)
        self._send(self.server.answer(request))

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """The log is that of the application."""

    def _send(self, response: Response) -> None:
        cut = response.cut or Cut(reset=False, after=response.content.size)
        if cut.after is not None:
            self.send_response_only(response.status)
            for name, value in ({"Content-Length": str(response.content.size)} | dict(response.headers)).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                for chunk in limited(response.content.chunks(), cut.after):
                    self.wfile.write(chunk)
        if response.cut:
            self.close_connection = True
        if cut.reset:
            self._reset()

    def _reset(self) -> None:
        """Close at once: the other side gets RST in place of the rest."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        socket.socket(fileno=self.connection.detach()).close()


def _not_ready(request: Request) -> Response:
    raise RuntimeError(f"not started: {request.target}")
