"""What to do about an error of the Hub: wait and try again, or give up. Classification is a value, apart from the waiting."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
import tenacity

from job.errors import AccessError, HubUnavailableError, JobError, Problem, SettingsError
from job.hub.client import LONGEST_WAIT_SECONDS, DeadlineError, Limits, LongWaitError, asked_wait, stopped
from job.protocols import Stop

TRANSIENT_STATUSES = frozenset({408, 409, 412, 425, 429, 500, 502, 503, 504})
STOP_POLL_SECONDS = 0.2
DOUBTFUL_ATTEMPTS = 5
_NOT_FOUND = 404
_DISGUISED = re.compile(r"HTTP status (?:client|server) error \((\d{3})")
_SHORT = "Consistency check failed"  # what the library says of a download that ended too soon
_backoff = tenacity.wait_exponential_jitter(initial=1, max=30)

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an error may go away by itself, and what the Hub asked for.

    status: the HTTP status, None where no answer came; retry_after: seconds that the Hub asked to wait, None where it did not;
    known: whether it is an error of the Hub or of the way there at all, rather than a bug of ours; doubtful: whether it may as
    well stay, so that it is worth a few attempts and not all the time there is.
    """

    transient: bool
    status: int | None = None
    retry_after: float | None = None
    known: bool = True
    doubtful: bool = False


class MismatchError(Exception):
    """What the Hub gave back is not what belongs there. It may be the connection's fault, so it is worth another try."""


def judge(error: BaseException) -> Verdict:
    """The verdict on an error of the Hub's libraries, which wrap, disguise and confuse them: see each case."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    # A proxy's page, or half of an answer; wrapped in another error these would be about a file's content.
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return Verdict(transient=True, doubtful=isinstance(error, UnicodeDecodeError))
    for cause in causes(error):
        if found := _by_answer(cause, error) or _by_kind(cause):
            return found
    if isinstance(error, LocalEntryNotFoundError):  # nothing under it says why: headers that are not the Hub's
        return Verdict(transient=True, doubtful=True)
    # The library refuses in words what its endpoints refuse in words: an invalid card, an object too large for the account.
    refused = isinstance(error, ValueError) and ("Invalid metadata" in str(error) or "LFS batch API" in str(error))
    return Verdict(transient=False, known=refused)


def _by_answer(cause: BaseException, error: BaseException) -> Verdict | None:
    """By the answer that the Hub gave, if it gave one."""
    response = getattr(cause, "response", None)
    if response is not None:
        status = response.status_code
        if status not in TRANSIENT_STATUSES and _upload_is_refused(error, response):
            return Verdict(transient=True, status=status, doubtful=True)
        return Verdict(status in TRANSIENT_STATUSES, status, asked_wait(response.headers))
    if disguised := _DISGUISED.search(str(cause)):  # xet reports a 403 as a ConnectionError
        status = int(disguised[1])
        return Verdict(status in TRANSIENT_STATUSES, status)
    return None


def _by_kind(cause: BaseException) -> Verdict | None:
    from huggingface_hub.errors import FileMetadataError, OfflineModeIsEnabled
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    if isinstance(cause, MismatchError):
        return Verdict(transient=True, doubtful=True)
    if isinstance(cause, DeadlineError | OfflineModeIsEnabled):
        return Verdict(transient=False)
    if isinstance(cause, LongWaitError):
        return Verdict(transient=True, status=cause.status, retry_after=cause.seconds)
    if isinstance(cause, FileMetadataError | httpx.HTTPError | ConnectionError | TimeoutError):
        return Verdict(transient=True)
    return Verdict(transient=True) if isinstance(cause, OSError) and _SHORT in str(cause) else None


def translated(error: Exception, doing: str) -> JobError:
    """An error of the Hub that is not to be tried again, as this job's own. Raises: an error that is none of the Hub, as it is.

    doing: what was tried, such as "publishing to org/name".
    """
    verdict, text = judge(error), " ".join(str(error).split())[:600]
    if not verdict.known:
        raise error
    if _is_offline():
        message = f"is set, and {doing} needs the Hub, or a cache in HF_HOME that has all of it: unset it, or fill the cache"
        return SettingsError([Problem("HF_HUB_OFFLINE", "1", f"{message} ({text})")])
    if isinstance(error, DeadlineError):
        return HubUnavailableError(f"{doing}: the Hub did not do it in time (last: {text}). Try again later.")
    if isinstance(error, MismatchError):
        return HubUnavailableError(f"{doing}: {text}. Try again later.")
    if verdict.status in (401, 403):
        return AccessError(f"{doing}: the Hub refused access ({verdict.status}): {text}. Check HF_TOKEN and its rights.")
    if verdict.transient or (verdict.status is None and not isinstance(error, ValueError)):
        answered = f"answered {verdict.status}" if verdict.status else "did not answer as it should"
        where = "" if verdict.status else _elsewhere()
        return HubUnavailableError(f"{doing}: the Hub {answered}: {text}. Try again later.{where}")
    where = _elsewhere() if verdict.status == _NOT_FOUND else ""
    return AccessError(f"{doing}: the Hub refused it{f' ({verdict.status})' if verdict.status else ''}: {text}.{where}")


def _elsewhere() -> str:
    """A word on the address, where it is not the usual one: something else may answer there."""
    from huggingface_hub import constants

    endpoint = re.sub(r"//[^/]*@", "//", constants.ENDPOINT)
    return "" if endpoint == constants._HF_DEFAULT_ENDPOINT else f" Or is there no Hub at HF_ENDPOINT={endpoint}?"  # noqa: SLF001


class Patience:
    """Tries again what may succeed later, for a limited time, and ends at once where a stop is asked for."""

    def __init__(
        self,
        limits: Limits,
        stop: Stop,
        sleep: Callable[[float], None] = time.sleep,
        on_retry: Callable[[str], object] = lambda event: None,
    ) -> None:
        """on_retry: gets each event that is logged before an attempt is repeated."""
        self.limits = limits
        self._stop = stop
        self._sleep = sleep
        self._on_retry = on_retry

    def __call__(
        self,
        attempt: Callable[[], T],
        doing: str,
        seconds: float,
        event: str = "hub_retry",
        wait_seconds: float = float("inf"),
    ) -> T:
        """What `attempt` returns in the end.

        doing: for messages; seconds: for all attempts together, waits included; event: logged before each wait; wait_seconds:
        for all waits together.
        Raises: AccessError at the first refusal, HubUnavailableError where time is over, StoppedError; JobErrors of `attempt`.
        """

        def is_over(state: tenacity.RetryCallState) -> bool:
            left = min(self.limits.seconds_left, wait_seconds - state.idle_for)
            return state.upcoming_sleep >= left or _stays(state)

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_worth_trying),
            stop=is_over,
            wait=_wait,
            sleep=self._pause,
            before_sleep=lambda state: self._note_retry(state, doing, event),
            reraise=True,
        )
        try:
            with self.limits.within(seconds):
                return retrying(attempt)
        except JobError:
            raise
        except Exception as error:
            raise translated(error, doing) from error

    def _note_retry(self, state: tenacity.RetryCallState, doing: str, event: str) -> None:
        _log_retry(state, doing, event)
        self._on_retry(event)

    def _pause(self, seconds: float) -> None:
        """Sleep, but not through a signal."""
        while seconds > 0:
            if self._stop.signal:
                raise stopped(self._stop)
            step = min(seconds, STOP_POLL_SECONDS)
            self._sleep(step)
            seconds -= step


def _worth_trying(error: BaseException) -> bool:
    return isinstance(error, Exception) and not isinstance(error, JobError) and judge(error).transient and not _is_offline()


def _is_offline() -> bool:
    """Whether the user forbade all requests; `datasets` does not say so in its errors."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _stays(state: tenacity.RetryCallState) -> bool:
    return state.attempt_number >= DOUBTFUL_ATTEMPTS and judge(_error(state)).doubtful


def _wait(state: tenacity.RetryCallState) -> float:
    """As long as the Hub asks for, within reason; else longer each time, and by chance, so that rivals do not meet again."""
    asked = judge(_error(state)).retry_after
    return min(asked, LONGEST_WAIT_SECONDS) if asked else _backoff(state)


def _log_retry(state: tenacity.RetryCallState, doing: str, event: str) -> None:
    error = _error(state)
    verdict = judge(error)
    log.warning(
        event,
        doing=doing,
        attempt=state.attempt_number,
        status=verdict.status,
        error=" ".join(str(error).split())[:300] or type(error).__name__,
        wait_seconds=round(state.upcoming_sleep, 1),
    )


def _error(state: tenacity.RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome else None
    if error is None:
        raise ValueError("nothing failed")
    return error


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those under it: an upload that fails is a RuntimeError from the one that says why."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _upload_is_refused(error: BaseException, response: Any) -> bool:
    """Whether the storage refused an upload, or the Hub misses what was uploaded: the next attempt is sent to a new address.

    Addresses there are signed for a time, and need no token. A refusal of the token itself is final.
    """
    if not (isinstance(error, RuntimeError) and "Error while uploading" in str(error)):
        return False
    return response.status_code not in (401, 403) or "authorization" not in response.request.headers
