"""No request and no wait of huggingface_hub is without a limit, those of `datasets` included."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from huggingface_hub import HfApi, HfFileSystem
from huggingface_hub.utils import get_session, httpx  # type: ignore[attr-defined]

from job.errors import HubUnavailableError, StoppedError
from job.hub import Hub
from job.hub.client import CONNECT_SECONDS, REQUEST_SECONDS, DeadlineError, Limits, LongWaitError, limit_requests
from job.hub.retry import Verdict, judge
from tests.hub.conftest import Connect, FakeStop, FakeTime
from tests.hub_clients import TOKEN
from tests.hub_server import HubServer, Repository, Reset, Status
from tests.hub_server.operations import CARD, TABLE


@pytest.fixture
def repository(hub: HubServer) -> Repository:
    return hub.add_repo("dataset", "ana/d", files={"README.md": CARD, "data/a.parquet": TABLE})


@pytest.fixture
def connected(hub: HubServer, repository: Repository, connect: Connect) -> Hub:
    return connect(hub)


@pytest.fixture
def timeouts(connected: Hub) -> Iterator[list[dict[str, float | None]]]:
    """Those of each request that goes out from here on."""
    seen: list[dict[str, float | None]] = []

    def note(response: Any) -> None:
        seen.append(dict(response.request.extensions["timeout"]))

    get_session().event_hooks["response"] = [note]
    yield seen
    assert seen


FLOOR = {"connect": CONNECT_SECONDS, "read": REQUEST_SECONDS, "write": REQUEST_SECONDS, "pool": REQUEST_SECONDS}
CALLS: dict[str, Callable[[HfApi], object]] = {
    "repo_info": lambda api: api.repo_info("ana/d", repo_type="dataset", timeout=None),
    "tree": lambda api: list(api.list_repo_tree("ana/d", repo_type="dataset")),
    "commits": lambda api: api.list_repo_commits("ana/d", repo_type="dataset"),
    "whoami": lambda api: api.whoami(),
    "auth_check": lambda api: api.auth_check("ana/d", repo_type="dataset"),
    "create_repo": lambda api: api.create_repo("ana/new", repo_type="dataset"),
    "file system of datasets": lambda api: HfFileSystem(api.endpoint, token=TOKEN, skip_instance_cache=True).ls(
        "datasets/ana/d"
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_request_without_a_timeout_gets_one(connected: Hub, timeouts: list[dict[str, float | None]], call: str) -> None:
    CALLS[call](connected.api)
    assert FLOOR in timeouts
    assert all(value for seen in timeouts for value in seen.values())


def test_a_shorter_timeout_of_the_library_stays(connected: Hub, timeouts: list[dict[str, float | None]]) -> None:
    connected.api.repo_info("ana/d", repo_type="dataset", timeout=3)
    assert timeouts == [dict.fromkeys(("connect", "read", "write", "pool"), 3)]


def test_every_request_of_a_download_has_a_timeout(connected: Hub, timeouts: list[dict[str, float | None]]) -> None:
    connected.api.snapshot_download("ana/d", repo_type="dataset")
    assert len(timeouts) >= 4
    assert all(value for seen in timeouts for value in seen.values())


def test_a_proxy_of_the_environment_is_used(hub: HubServer, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test server stands in for the proxy: it gets the whole address of another host."""
    monkeypatch.setenv("HTTP_PROXY", hub.url)
    hub.fail(Status(502), times=None)
    with pytest.raises(HubUnavailableError):
        connect("http://hub.example").resolve("model", "ana/m", "main")
    assert {seen.path for seen in hub.requests} == {"http://hub.example/api/models/ana/m/revision/main"}


@pytest.mark.parametrize("headers", [{"Retry-After": "5"}, {"RateLimit": '"api";r=0;t=5'}])
def test_a_short_wait_is_left_to_the_library(
    hub: HubServer, connected: Hub, library_waits: list[float], headers: dict[str, str]
) -> None:
    hub.fail(Status(429, headers), path="/tree/")
    list(connected.api.list_repo_tree("ana/d", repo_type="dataset"))
    assert library_waits == [6]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"Retry-After": "86400"}, 86400), ({"RateLimit": '"api";r=0;t=86400'}, 86400), ({"Retry-After": "6"}, 6)],
)
def test_a_long_wait_is_ours_so_that_a_signal_can_end_it(
    hub: HubServer, connected: Hub, library_waits: list[float], headers: dict[str, str], seconds: float
) -> None:
    hub.fail(Status(429, headers), path="/tree/")
    with pytest.raises(LongWaitError, match="429 for /api/datasets/ana/d/tree/main") as caught:
        list(connected.api.list_repo_tree("ana/d", repo_type="dataset"))
    assert (caught.value.seconds, library_waits) == (seconds, [])
    assert judge(caught.value) == Verdict(transient=True, status=429, retry_after=seconds)


def test_the_library_sleeps_no_longer_than_there_is_time(hub: HubServer, connected: Hub, library_waits: list[float]) -> None:
    hub.fail(Status(503, {"Retry-After": "5"}), path="/tree/")
    with connected.patience.limits.within(3), pytest.raises(DeadlineError, match=r"503 to GET /api/datasets/ana/d/tree/main"):
        list(connected.api.list_repo_tree("ana/d", repo_type="dataset"))
    assert library_waits == [4]
    assert len(hub.requests) == 1


@pytest.mark.parametrize(("fault", "said"), [(Status(503), "503"), (Reset(), "ReadError")])
def test_the_deadline_holds_among_the_librarys_own_retries(
    hub: HubServer, connected: Hub, library_waits: list[float], fault: Status | Reset, said: str
) -> None:
    """The library waits 1, 2, 4, 8 and 8 seconds; when the time is over, its next request is not sent."""
    hub.fail(fault, path="/tree/", times=None)
    with pytest.raises(HubUnavailableError, match=f"did not do it in time .*{said} to GET /api/datasets/ana/d/tree/main"):
        connected.patience(lambda: list(connected.api.list_repo_tree("ana/d", repo_type="dataset")), "listing", 5)
    assert library_waits == [1, 2, 4]
    assert len(hub.requests) == 3


def test_nothing_is_sent_when_the_time_is_over(hub: HubServer, connected: Hub, time: FakeTime) -> None:
    with connected.patience.limits.within(10):
        time.now = 10
        with pytest.raises(DeadlineError, match="the time is over"):
            connected.api.whoami()
    assert not hub.requests
    connected.api.whoami()


def test_a_stop_is_heeded_when_its_grace_is_over(hub: HubServer, connected: Hub, stop: FakeStop) -> None:
    stop.signal = "SIGTERM"
    connected.api.whoami()
    stop.grace_is_over = True
    with pytest.raises(StoppedError, match="stopped by SIGTERM"):
        connected.api.whoami()
    assert len(hub.requests) == 1


def test_a_stop_ends_the_librarys_own_retries(
    hub: HubServer, connected: Hub, stop: FakeStop, time: FakeTime, library_waits: list[float]
) -> None:
    def end() -> None:
        stop.signal, stop.grace_is_over = "SIGTERM", True

    time.on_sleep = end
    hub.fail(Status(503), path="/tree/", times=None)
    with pytest.raises(StoppedError):
        connected.patience(lambda: list(connected.api.list_repo_tree("ana/d", repo_type="dataset")), "listing", 600)
    assert library_waits == [1]


def test_limits_lie_inside_each_other(stop: FakeStop, time: FakeTime) -> None:
    limits = Limits(stop, time)
    assert limits.seconds_left == float("inf")
    with limits.within(100):
        with limits.within(500):
            assert limits.seconds_left == 100
        with limits.within(10):
            time.now = 4
            assert limits.seconds_left == 6
        assert limits.seconds_left == 96
    assert limits.seconds_left == float("inf")


def test_headers_without_a_wait_are_left_alone(stop: FakeStop, time: FakeTime) -> None:
    headers = {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT", "ratelimit": '"api";r=4;t=9'}
    before = dict(headers)
    Limits(stop, time).shorten(headers)
    assert headers == before


def test_a_failure_without_an_answer_is_remembered(stop: FakeStop, time: FakeTime, hub: HubServer, connect: Connect) -> None:
    connect(hub)
    limits = Limits(stop, time)
    limit_requests(limits)
    hub.fail(Reset(), path="/secret")
    with limits.within(5), pytest.raises(httpx.ReadError):
        get_session().get(f"{hub.url}/secret?signature=abc")
    assert limits.last_failure == "ReadError to GET /secret"
