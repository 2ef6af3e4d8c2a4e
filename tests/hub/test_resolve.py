"""Names become commits, or an error that says which variable to mend."""

from types import SimpleNamespace

import pytest
from structlog.typing import EventDict

from job.errors import AccessError, HubUnavailableError, JobError, SettingsError
from job.hub.resolve import resolve
from job.records import Kind
from tests.hub.conftest import Connect, FakeTime
from tests.hub_clients import TOKEN
from tests.hub_server import FineGrained, HubServer, Repository, Reset, Status

FILES = {"config.json": "{}"}
COMMIT = "0123456789" * 4


@pytest.fixture
def model(hub: HubServer) -> Repository:
    return hub.add_repo("model", "ana/m", files=FILES)


def refusal(connect: Connect, server: HubServer, name: str = "ana/m", token: str | None = TOKEN, **more: str) -> JobError:
    kind: Kind = "dataset" if more.get("kind") == "dataset" else "model"
    with pytest.raises(JobError) as caught:
        connect(server, token).resolve(kind, name, more.get("revision", "main"))
    return caught.value


def test_a_branch_and_a_tag_and_a_commit_become_that_commit(hub: HubServer, model: Repository, connect: Connect) -> None:
    first = model.head()
    model.create_tag("v1")
    model.create_branch("refs/pr/1")
    second = model.commit({"config.json": "{ }"})
    resolved = {name: connect(hub).resolve("model", "ana/m", name) for name in ("main", "v1", "refs/pr/1", first)}
    assert {name: source.commit for name, source in resolved.items()} == {
        "main": second,
        "v1": first,
        "refs/pr/1": first,
        first: first,
    }
    assert {(source.name, source.local) for source in resolved.values()} == {("ana/m", False)}


def test_a_moving_name_costs_one_request_and_a_commit_none(hub: HubServer, model: Repository, connect: Connect) -> None:
    connect(hub).resolve("model", "ana/m", "main")
    assert [(seen.method, seen.status) for seen in hub.requests] == [("GET", 200)]
    connect(hub).resolve("model", "ana/m", model.head())
    assert len(hub.requests) == 1


@pytest.mark.parametrize(("kind", "variable"), [("model", "MODEL_ID"), ("adapter", "LORA_ID"), ("dataset", "DATASET_ID")])
def test_a_missing_repository_is_named_with_its_variable(hub: HubServer, connect: Connect, kind: Kind, variable: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable}='ana/none': no {kind} of this name .* Check the name and HF_ENDPOINT"):
        connect(hub).resolve(kind, "ana/none", "main")


@pytest.mark.parametrize("name", ["ana/none", "ana/private"])
@pytest.mark.parametrize("token", [None, "hf_bob"])
def test_a_private_repository_looks_missing_to_others(
    secure: HubServer, connect: Connect, name: str, token: str | None
) -> None:
    """Over TLS, where the library takes the bare 401 that an anonymous request gets for a missing repository."""
    secure.add_user("bo", token="hf_bob")
    secure.add_repo("model", "ana/private", files=FILES, private=True)
    error = refusal(connect, secure, name, token)
    assert isinstance(error, SettingsError)
    assert f"MODEL_ID='{name}'" in str(error)
    assert "if it is private, set HF_TOKEN to a token that may read it" in str(error)


def test_a_private_repository_is_found_with_a_token_of_its_owner(secure: HubServer, connect: Connect) -> None:
    repository = secure.add_repo("model", "ana/private", files=FILES, private=True)
    assert connect(secure).resolve("model", "ana/private", "main").commit == repository.head()


def test_a_missing_revision_is_named_with_its_variable(hub: HubServer, model: Repository, connect: Connect) -> None:
    error = refusal(connect, hub, revision="v2")
    assert isinstance(error, SettingsError)
    assert str(error) == "MODEL_REVISION='v2': ana/m has no such branch, tag or commit"


@pytest.mark.parametrize("token", [None, "hf_bob", "hf_narrow"])
@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_gated_repository_asks_for_its_terms(hub: HubServer, connect: Connect, token: str | None, kind: Kind) -> None:
    hub.add_user("bo", token="hf_bob")
    hub.add_user("cy", token="hf_cyd")
    hub.add_token("cy", "hf_narrow", FineGrained({"cy": "read"}))
    repository = hub.add_repo("dataset" if kind == "dataset" else "model", "ana/m", files=FILES, gated="manual")
    repository.granted.add("cy")
    error = refusal(connect, hub, token=token, kind=kind)
    assert isinstance(error, AccessError)
    assert "is gated. Accept its terms on its page" in str(error)
    assert connect(hub, "hf_cyd").resolve(kind, "ana/m", "main").commit == repository.head()


@pytest.mark.parametrize("token", ["hf_wrong", "hf_old"])
def test_a_token_that_is_not_valid_is_refused(hub: HubServer, model: Repository, connect: Connect, token: str) -> None:
    hub.add_token("ana", "hf_old", "read")
    hub.expire_token("hf_old")
    error = refusal(connect, hub, token=token)
    assert isinstance(error, AccessError)
    assert "MODEL_ID=ana/m: the Hub refused access (401)" in str(error)
    assert "Check HF_TOKEN" in str(error)
    assert len(hub.requests) == 1


@pytest.mark.parametrize("name", ["a//b", "ana/m.git", "ana/two words", "ana/--m", "-m"])
def test_a_text_that_is_no_name_is_refused_without_a_request(hub: HubServer, connect: Connect, name: str) -> None:
    assert isinstance(refusal(connect, hub, name), SettingsError)
    assert not hub.requests


def test_an_outage_that_passes_is_waited_for(
    hub: HubServer, model: Repository, connect: Connect, time: FakeTime, events: list[EventDict]
) -> None:
    hub.fail(Status(503), times=2)
    assert connect(hub).resolve("model", "ana/m", "main").commit == model.head()
    assert [(event["event"], event["attempt"], event["status"]) for event in events] == [
        ("hub_retry", 1, 503),
        ("hub_retry", 2, 503),
    ]
    assert events[0]["doing"] == "MODEL_ID=ana/m"
    assert sum(event["wait_seconds"] for event in events) == pytest.approx(time.now, abs=0.2)


@pytest.mark.parametrize("fault", [Status(503), Status(429), Reset(), Status(200, body="<html>a proxy's page</html>")])
def test_an_outage_that_lasts_ends_in_half_a_minute(
    hub: HubServer, model: Repository, connect: Connect, time: FakeTime, fault: Status | Reset
) -> None:
    hub.fail(fault, times=None)
    error = refusal(connect, hub)
    assert isinstance(error, HubUnavailableError)
    assert str(error).startswith("MODEL_ID=ana/m: the Hub ")
    assert "Try again later." in str(error)
    assert str(error).endswith(" There is no file or folder of this name here.")
    assert 3 <= len(hub.requests) <= 10
    assert time.now < 30


def test_a_hub_that_is_down_is_said_to_be_so(hub: HubServer, connect: Connect, time: FakeTime) -> None:
    address = hub.url
    hub.stop()
    with pytest.raises(HubUnavailableError, match=r"MODEL_ID=ana/m: the Hub did not answer as it should: .*Connection refused"):
        connect(address).resolve("model", "ana/m", "main")
    assert 10 < time.now < 30


def test_a_hub_that_names_no_commit_is_not_believed() -> None:
    api = SimpleNamespace(repo_info=lambda *_, **__: SimpleNamespace(sha=None, gated=False))
    with pytest.raises(HubUnavailableError, match="DATASET_ID=ana/d: the Hub named no commit"):
        resolve(api, "dataset", "ana/d", "main")
