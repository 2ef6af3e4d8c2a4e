"""Which errors of the real clients are worth another try, what they become in the end, and how long that takes."""

import builtins
import json
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants
from huggingface_hub.errors import OfflineModeIsEnabled
from structlog.typing import EventDict

from job.errors import AccessError, DatasetError, HubUnavailableError, JobError, SettingsError, StoppedError
from job.hub.client import DeadlineError, Limits
from job.hub.retry import MismatchError, Patience, Verdict, judge, translated
from tests.hub.conftest import Connect, FakeStop, FakeTime
from tests.hub_server import CutAnswer, Delay, Fault, HubServer, LoseAnswer, Repository, Reset, Status, Truncate
from tests.hub_server.operations import CARD, DATA_ARGUMENT, TABLE

pytestmark = pytest.mark.filterwarnings(DATA_ARGUMENT)
HTML = "<html>Bad gateway</html>"
Call = Callable[[HfApi], object]


@pytest.fixture
def repository(hub: HubServer) -> Repository:
    return hub.add_repo("dataset", "ana/d", files={"README.md": CARD, "data/a.parquet": TABLE})


def commit(api: HfApi, path: str = "a.txt", content: bytes = b"a", parent: str | None = None) -> object:
    operations = [CommitOperationAdd(path, content)]
    return api.create_commit("ana/d", operations, commit_message="Change", repo_type="dataset", parent_commit=parent)


def commit_table(api: HfApi) -> object:
    return commit(api, "b.parquet", TABLE * 2)


def commit_card(api: HfApi) -> object:
    return commit(api, "README.md", CARD.encode() + b"more")


def commit_on_nothing(api: HfApi) -> object:
    return commit(api, parent="0" * 40)


def look(api: HfApi) -> object:
    return api.repo_info("ana/d", repo_type="dataset")


def check(api: HfApi) -> None:
    api.auth_check("ana/d", repo_type="dataset", write=True)


def download(api: HfApi) -> object:
    return api.hf_hub_download("ana/d", "data/a.parquet", repo_type="dataset")


def rehearse(api: HfApi) -> object:
    return api.snapshot_download("ana/d", repo_type="dataset", revision="0" * 39 + "1", dry_run=True)


def lfs_refusal(batch: object) -> Status:
    return Status(200, {"Content-Type": "application/vnd.git-lfs+json"}, json.dumps(batch))


STATUSES = {
    **dict.fromkeys((408, 409, 412, 425, 429, 500, 502, 503, 504), True),
    **dict.fromkeys((400, 401, 402, 403, 404, 413, 422), False),
}
CASES: dict[str, tuple[Call, Fault, str, Verdict]] = {
    "lookup reset": (look, Reset(), "", Verdict(transient=True)),
    "lookup cut short": (look, CutAnswer(3), "", Verdict(transient=True)),
    "lookup is a page": (look, Status(200, body=HTML), "", Verdict(transient=True)),
    "commit reset": (commit, Reset(), "/commit/", Verdict(transient=True)),
    "commit's answer lost": (commit, LoseAnswer(), "/commit/", Verdict(transient=True)),
    "upload refused": (commit_table, Status(403), "/uploads/", Verdict(transient=True, status=403, doubtful=True)),
    "upload unavailable": (commit_table, Status(503), "/uploads/", Verdict(transient=True, status=503)),
    "card check is a page": (commit_card, Status(503, body=HTML), "/validate-yaml", Verdict(transient=True)),
    "card check unavailable": (commit_card, Status(503, body="{}"), "/validate-yaml", Verdict(transient=True, status=503)),
    "card check reset": (commit_card, Reset(), "/validate-yaml", Verdict(transient=True)),
    "card refused": (
        commit_card,
        Status(400, body='{"errors": [{"message": "no such license"}], "warnings": []}'),
        "/validate-yaml",
        Verdict(transient=False, status=400),
    ),
    "head without a commit": (download, Status(200, body=HTML), "/resolve/", Verdict(transient=True)),
    "head unavailable": (download, Status(503), "/resolve/", Verdict(transient=True, status=503)),
    "head refused": (download, Status(403), "/resolve/", Verdict(transient=False, status=403)),
    "download reset": (download, CutAnswer(2000, reset=True), "/objects/", Verdict(transient=True)),
    "download too short": (download, Truncate(2000), "/objects/", Verdict(transient=True)),
    "download unavailable": (download, Status(503), "/objects/", Verdict(transient=True, status=503)),
    "listing unavailable": (rehearse, Status(503), "/tree/", Verdict(transient=True, status=503)),
    "listing refused": (rehearse, Status(401), "/tree/", Verdict(transient=False, status=401)),
}


def raised(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 # the type is what is looked at
        call()
    return caught.value


@pytest.mark.parametrize("case", CASES)
def test_an_error_of_the_clients_is_judged_by_what_caused_it(
    hub: HubServer, repository: Repository, connect: Connect, case: str
) -> None:
    call, fault, path, verdict = CASES[case]
    api = connect(hub).api
    hub.fail(fault, path=path, times=None)
    assert judge(raised(lambda: call(api))) == verdict


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("call", [check, commit])
def test_a_status_is_worth_another_try_or_not(
    hub: HubServer, repository: Repository, connect: Connect, call: Call, status: int
) -> None:
    api = connect(hub).api
    hub.fail(Status(status), path="/commit/|/auth-check", times=None)
    assert judge(raised(lambda: call(api))) == Verdict(STATUSES[status], status)


def test_a_stale_parent_is_worth_another_try(hub: HubServer, repository: Repository, connect: Connect) -> None:
    api = connect(hub).api
    assert judge(raised(lambda: commit_on_nothing(api))) == Verdict(transient=True, status=412)


def test_a_request_that_takes_too_long_is_worth_another_try(hub: HubServer, repository: Repository, connect: Connect) -> None:
    api = connect(hub).api
    hub.fail(Delay(5))
    assert judge(raised(lambda: api.repo_info("ana/d", repo_type="dataset", timeout=0.2))) == Verdict(transient=True)


def test_an_object_that_the_storage_refuses_is_not(hub: HubServer, repository: Repository, connect: Connect) -> None:
    api = connect(hub).api
    refused = {"objects": [{"oid": "0" * 64, "size": 1, "error": {"code": 403, "message": "quota exceeded"}}]}
    hub.fail(lfs_refusal(refused), path="/objects/batch", times=None)
    error = raised(lambda: commit_table(api))
    assert isinstance(error, ValueError)
    assert judge(error) == Verdict(transient=False)
    assert isinstance(translated(error, "publishing to ana/d"), AccessError)


XET = "Network error: Request error: HTTP status client error ({} Reason) for url (https://cas.example/v1/xorbs)"


@pytest.mark.parametrize(("status", "transient"), [(401, False), (403, False), (404, False), (429, True), (503, True)])
def test_a_refusal_that_xet_gives_out_for_a_network_error_is_seen_through(status: int, transient: bool) -> None:
    error = builtins.ConnectionError(XET.format(status))
    assert judge(error) == Verdict(transient, status)
    assert isinstance(translated(error, "publishing"), HubUnavailableError if transient else AccessError)


def chained(error: Exception, cause: BaseException, *, implicit: bool = False) -> Exception:
    if implicit:
        error.__context__ = cause
    else:
        error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (builtins.ConnectionError("CAS unreachable"), Verdict(transient=True)),
        (TimeoutError("timed out"), Verdict(transient=True)),
        (MismatchError("damaged"), Verdict(transient=True, doubtful=True)),
        (DeadlineError("over"), Verdict(transient=False)),
        (chained(RuntimeError("upload failed"), DeadlineError("over")), Verdict(transient=False)),
        (OfflineModeIsEnabled("offline"), Verdict(transient=False)),
        (chained(FileNotFoundError("no data file"), ConnectionResetError(), implicit=True), Verdict(transient=True)),
        (ValueError("Invalid metadata in README.md"), Verdict(transient=False)),
        (ValueError("a bug"), Verdict(transient=False, known=False)),
        (KeyError("shouldIgnore"), Verdict(transient=False, known=False)),
        (FileNotFoundError(2, "gone"), Verdict(transient=False, known=False)),
        (OSError(28, "No space left on device"), Verdict(transient=False, known=False)),
        (chained(RuntimeError("line 7"), json.JSONDecodeError("x", "{", 1)), Verdict(transient=False, known=False)),
    ],
)
def test_an_error_is_judged(error: Exception, verdict: Verdict) -> None:
    assert judge(error) == verdict


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"RateLimit": '"api";r=0;t=55'}, 55),
        ({"RateLimit": '"api";r=417;t=55'}, None),
        ({"Retry-After": "7", "RateLimit": '"api";r=0;t=55'}, 7),
    ],
)
def test_the_wait_that_the_hub_asks_for_is_read(
    hub: HubServer, repository: Repository, connect: Connect, headers: dict[str, str], seconds: float | None
) -> None:
    api = connect(hub).api
    hub.fail(Status(429, headers))
    with connect(hub).patience.limits.within(100):
        assert judge(raised(lambda: look(api))).retry_after == seconds


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (Status(503), HubUnavailableError, "doing it: the Hub answered 503: Server error '503 Service Unavailable'"),
        (
            Reset(),
            HubUnavailableError,
            "doing it: the Hub did not answer as it should: [Errno 104] Connection reset by peer. Try again",
        ),
        (Status(401), AccessError, "doing it: the Hub refused access (401): "),
        (Status(403), AccessError, "Check HF_TOKEN and its rights."),
        (Status(413), AccessError, "doing it: the Hub refused it (413): "),
        (Status(402), AccessError, "doing it: the Hub refused it (402): "),
    ],
)
def test_an_error_becomes_one_of_this_job(
    hub: HubServer, repository: Repository, connect: Connect, fault: Fault, kind: type[JobError], message: str
) -> None:
    api = connect(hub).api
    hub.fail(fault)
    error = translated(raised(lambda: look(api)), "doing it")
    assert type(error) is kind
    assert message in str(error)
    assert "\n" not in str(error)


def test_an_error_of_this_job_keeps_no_token_when_it_is_pickled(
    hub: HubServer, repository: Repository, connect: Connect
) -> None:
    """What the library raises holds the request with its Authorization header, pickled too."""
    token = "distinctive-secret-4711"
    hub.add_token("ana", token, "read")
    connected = connect(hub, token)
    hub.fail(Status(403), path="/revision/", times=None)
    hub.fail(Status(503), path="/api/datasets/ana/d$", times=None)
    calls: list[Callable[[], object]] = [
        lambda: connected.resolve("dataset", "ana/d", "main"),
        lambda: connected.resolve("dataset", "ana/none", "v9"),
        lambda: connected.check_target("ana/new"),
        lambda: connected.read(lambda: look(connected.api), "reading"),
    ]
    for call in calls:
        error = raised(call)
        assert isinstance(error, JobError)
        assert token not in repr(error)
        assert token.encode() not in pickle.dumps(error)
    library = raised(lambda: look(connected.api))
    assert token.encode() in pickle.dumps(library)  # or this test would show nothing


@pytest.fixture
def retries() -> list[str]:
    return []


@pytest.fixture
def patience(time: FakeTime, stop: FakeStop, retries: list[str]) -> Patience:
    return Patience(Limits(stop, time), stop, time.sleep, retries.append)


class Attempts:
    """Fails with these errors in turn, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.made = 0

    def __call__(self) -> str:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_what_succeeds_at_once_is_not_waited_for(patience: Patience, time: FakeTime, retries: list[str]) -> None:
    assert patience(Attempts(), "doing it", 30) == "done"
    assert (time.now, retries) == (0, [])


def test_each_wait_is_longer_on_average_logged_and_told(
    patience: Patience, time: FakeTime, events: list[EventDict], retries: list[str]
) -> None:
    attempts = Attempts(*(ConnectionError("no route\n to host") for _ in range(4)))
    assert patience(attempts, "doing it", 3600, event="upload_retry") == "done"
    assert attempts.made == 5
    assert [event["attempt"] for event in events] == [1, 2, 3, 4]
    assert {event["event"] for event in events} == {"upload_retry"}
    assert retries == ["upload_retry"] * 4
    assert {event["error"] for event in events} == {"no route to host"}
    assert all(2**number <= event["wait_seconds"] <= 2**number + 1 for number, event in enumerate(events))
    assert time.now == pytest.approx(sum(event["wait_seconds"] for event in events), abs=0.3)


def test_patience_ends_before_its_time_is_over(patience: Patience, time: FakeTime) -> None:
    attempts = Attempts(*(ConnectionError("down") for _ in range(100)))
    with pytest.raises(HubUnavailableError, match=r"^doing it: the Hub did not answer as it should: down\. Try again later\.$"):
        patience(attempts, "doing it", 60)
    assert 30 < time.now < 60
    assert attempts.made > 4


def test_attempts_that_take_long_count(patience: Patience, time: FakeTime) -> None:
    def attempt() -> None:
        time.now += 50
        raise ConnectionError("down")

    with pytest.raises(HubUnavailableError):
        patience(attempt, "doing it", 60)
    assert time.now < 110


def test_waits_may_have_a_limit_of_their_own(patience: Patience, time: FakeTime) -> None:
    def attempt() -> None:
        time.now += 3600
        raise ConnectionError("down")

    with pytest.raises(HubUnavailableError):
        patience(attempt, "doing it", 24 * 3600, wait_seconds=5)
    assert time.now < 3 * 3600 + 5


def test_an_outer_limit_holds_inside(patience: Patience, time: FakeTime) -> None:
    with patience.limits.within(10), pytest.raises(HubUnavailableError):
        patience(Attempts(*(ConnectionError("down") for _ in range(100))), "doing it", 3600)
    assert time.now < 10


def test_the_wait_that_the_hub_asks_for_is_kept_to_within_reason(
    hub: HubServer, repository: Repository, connect: Connect, time: FakeTime, events: list[EventDict]
) -> None:
    connected = connect(hub)
    hub.fail(Status(429, {"Retry-After": "17"}))
    hub.fail(Status(429, {"Retry-After": "86400"}), skip=1)
    connected.read(lambda: look(connected.api), "reading")
    assert [event["wait_seconds"] for event in events] == [17, 120]
    assert time.now == pytest.approx(137)


class BusyError(Exception):
    """As the library raises it where the client has cut no header."""

    response = SimpleNamespace(status_code=429, headers={"retry-after": "86400"})


def test_no_wait_is_longer_than_is_reasonable_whoever_asks_for_it(patience: Patience, time: FakeTime) -> None:
    assert patience(Attempts(BusyError()), "doing it", 3 * 86400) == "done"
    assert time.now == pytest.approx(120)


def test_a_wait_that_is_longer_than_the_patience_is_not_begun_in_vain(
    hub: HubServer, repository: Repository, connect: Connect, time: FakeTime
) -> None:
    connected = connect(hub)
    hub.fail(Status(429, {"Retry-After": "86400"}), times=None)
    with pytest.raises(HubUnavailableError, match="429"):
        connected.resolve("dataset", "ana/d", "main")
    assert time.now <= 30


def test_a_stop_ends_a_wait_at_once(patience: Patience, time: FakeTime, stop: FakeStop) -> None:
    def ask_to_stop() -> None:
        stop.signal = "SIGTERM"

    time.on_sleep = ask_to_stop
    attempts = Attempts(*(ConnectionError("down") for _ in range(5)))
    with pytest.raises(StoppedError, match=r"stopped by SIGTERM while working with the Hub. Run the same command again"):
        patience(attempts, "doing it", 3600)
    assert attempts.made == 1
    assert time.now <= 0.2


JOB_ERRORS = [
    DatasetError("no such column"),
    StoppedError("stopped"),
    HubUnavailableError("down"),
    chained(AccessError("is gated"), ConnectionError("down")),
]


@pytest.mark.parametrize("error", JOB_ERRORS)
def test_an_error_of_this_job_passes_at_once_as_it_is(patience: Patience, error: Exception) -> None:
    attempts = Attempts(error)
    with pytest.raises(type(error)) as caught:
        patience(lambda: patience(attempts, "inner", 30), "outer", 30)
    assert caught.value is error
    assert caught.value.__cause__ is not error
    assert attempts.made == 1


@pytest.mark.parametrize("error", [KeyError("a bug"), ValueError("a bug"), OSError(28, "No space left on device")])
def test_an_error_that_is_none_of_the_hub_passes_at_once_as_it_is(patience: Patience, error: Exception) -> None:
    attempts = Attempts(error)
    with pytest.raises(type(error)) as caught:
        patience(attempts, "doing it", 30)
    assert caught.value is error
    assert attempts.made == 1


def test_a_keyboard_interrupt_is_not_held_up(patience: Patience) -> None:
    def attempt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        patience(attempt, "doing it", 30)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            DeadlineError("503 to GET /api/whoami-v2"),
            "doing it: the Hub did not do it in time (last: 503 to GET /api/whoami-v2)",
        ),
        (MismatchError("a.bin came damaged from the Hub"), "doing it: a.bin came damaged from the Hub. Try again later."),
    ],
)
def test_what_is_over_or_damaged_for_good_is_an_outage(patience: Patience, error: Exception, message: str) -> None:
    def attempt() -> Any:
        raise error

    with pytest.raises(HubUnavailableError) as caught:
        patience(attempt, "doing it", 30)
    assert message in str(caught.value)


@pytest.mark.parametrize("error", [OfflineModeIsEnabled("Cannot reach it"), ConnectionError("Couldn't reach 'ana/d'")])
def test_nothing_is_tried_again_offline(
    patience: Patience, monkeypatch: pytest.MonkeyPatch, time: FakeTime, error: Exception
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SettingsError, match="HF_HUB_OFFLINE='1': is set, and doing it needs the Hub, or a cache in HF_HOME"):
        patience(Attempts(error), "doing it", 30)
    assert time.now == 0


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (ConnectionError("down"), True),
        (json.JSONDecodeError("Expecting value", "<html>", 0), True),
        (builtins.ConnectionError("HTTP status client error (404 Not Found)"), True),
        (builtins.ConnectionError("HTTP status server error (503 Service Unavailable)"), False),
    ],
)
def test_an_address_that_may_be_wrong_is_named_without_its_password(
    error: Exception, hint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "HF_ENDPOINT" not in str(translated(error, "doing it"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://ana:secret@hub.example:1")
    message = str(translated(error, "doing it"))
    assert message.endswith(" Or is there no Hub at HF_ENDPOINT=http://hub.example:1?") == hint
    assert "secret" not in message
