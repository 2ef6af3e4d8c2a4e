"""The Hub's HTTP client with limits: on every request, on every wait that the Hub asks for, and on a whole piece of work.

The library's own client waits for ever on all but downloads, and sleeps as long as a Retry-After header says.
Source of the library's habits: huggingface_hub 2.4, utils/_http.py.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

from job.errors import StoppedError
from job.protocols import Stop

ASKING_STATUSES = frozenset({408, 429, 500, 502, 503, 504})  # the library obeys a Retry-After of these
CONNECT_SECONDS = 10.0
REQUEST_SECONDS = 60.0  # between two bytes, not for the whole request
LONGEST_WAIT_SECONDS = 120.0
LIBRARY_WAIT_SECONDS = 5.0  # longer ones are ours to wait: the library sleeps through signals


class DeadlineError(Exception):
    """The time for a piece of work with the Hub is over. Not an error of HTTP: the library would try those again."""


class LongWaitError(Exception):
    """The Hub asks for a long wait before the next request. Not an error of HTTP: the library would wait by itself."""

    def __init__(self, status: int, seconds: float, path: str) -> None:
        super().__init__(f"{status} for {path}, with a wait of {seconds:.0f} s asked for")
        self.status = status
        self.seconds = seconds


class Limits:
    """Until when requests may be sent. Shared by all threads of the library, so not bound to any of them."""

    def __init__(self, stop: Stop, clock: Callable[[], float] = time.monotonic) -> None:
        self._stop = stop
        self._clock = clock
        self._until = float("inf")
        self.last_failure = ""
        """What went wrong last, for the error that names the deadline."""

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Requests of this block must begin within so many seconds; an outer block's limit holds as well."""
        outer = self._until
        self._until = min(outer, self._clock() + seconds)
        self.last_failure = ""
        try:
            yield
        finally:
            self._until = outer

    @property
    def seconds_left(self) -> float:
        return max(self._until - self._clock(), 0.0)

    def check(self) -> None:
        """Raises: DeadlineError, or StoppedError where the run was asked to stop and its grace is over."""
        if self._stop.signal and self._stop.grace_is_over:
            raise stopped(self._stop)
        if not self.seconds_left:
            raise DeadlineError(self.last_failure or "the time is over")

    def note(self, method: str, path: str, what: object) -> None:
        self.last_failure = f"{what} to {method} {path}"

    def shorten(self, headers: MutableMapping[str, str]) -> None:
        """Cut the waits that an answer asks for: the library would sleep for whatever is written there."""
        longest = int(min(LONGEST_WAIT_SECONDS, self.seconds_left))
        asked = headers.get("retry-after", "")
        if asked.isdigit() and int(asked) > longest:
            headers["retry-after"] = str(longest)
        if window := headers.get("ratelimit"):
            headers["ratelimit"] = re.sub(r"\bt=(\d+)", lambda found: f"t={min(int(found[1]), longest)}", window)


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """The seconds that an answer asks to wait, None where it does not."""
    value = headers.get("retry-after", "")
    if value.isdigit():
        return float(value)
    # Every answer bears this header: it is the reason to wait only where nothing remains.
    window = re.search(r"\br=0;\s*t=(\d+)", headers.get("ratelimit", ""))
    return float(window[1]) if window else None


def stopped(stop: Stop) -> StoppedError:
    return StoppedError(f"stopped by {stop.signal} while working with the Hub. Run the same command again to go on.")


def limit_requests(limits: Limits, seconds: float = REQUEST_SECONDS) -> None:
    """Give every request of huggingface_hub in this process these limits, those included that ask for none.

    seconds: between two bytes of an answer, at most.
    """
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]
    from huggingface_hub.utils._http import hf_request_event_hook

    # It writes to standard error by itself: let its lines be formatted as all others are.
    logging.getLogger("huggingface_hub").handlers.clear()
    timeouts = httpx.Timeout(seconds, connect=CONNECT_SECONDS).as_dict()

    class LimitedClient(httpx.Client):
        # Not a transport of our own: with one, httpx takes no notice of HTTPS_PROXY.
        def send(self, request: Any, **options: Any) -> Any:
            limits.check()
            wanted = request.extensions.get("timeout", {})
            request.extensions["timeout"] = timeouts | {name: value for name, value in wanted.items() if value is not None}
            try:
                response = super().send(request, **options)
            except httpx.HTTPError as error:
                limits.note(request.method, request.url.path, type(error).__name__)
                raise
            if response.status_code >= httpx.codes.BAD_REQUEST:
                limits.note(request.method, request.url.path, response.status_code)
                asked = asked_wait(response.headers) or 0
                if response.status_code in ASKING_STATUSES and asked > LIBRARY_WAIT_SECONDS:
                    response.close()
                    raise LongWaitError(response.status_code, asked, request.url.path)
                limits.shorten(response.headers)
            return response

    def client() -> Any:
        return LimitedClient(event_hooks={"request": [hf_request_event_hook]}, follow_redirects=True, timeout=None)

    set_client_factory(client)
