"""May the results be published? By every kind of token, to every kind of place, without changing anything there."""

import itertools

import pytest

from job.errors import AccessError, HubUnavailableError, JobError, SettingsError
from job.hub import Hub
from job.hub.access import Target, prepare
from tests.hub.conftest import Connect, FakeTime
from tests.hub_server import Call, FineGrained, HubServer, Status

TOKENS = {
    "none": None,
    "invalid": "hf_invalid",
    "expired": "hf_expired",
    "read": "hf_read",
    "write": "hf_ana",
    "narrow on nothing": "hf_nothing",
    "narrow on another repository": "hf_other",
    "narrow reader of the namespace": "hf_reader",
    "narrow on the namespace": "hf_space",
    "narrow on the repository": "hf_repo",
}
NO_TOKEN = "HF_TOKEN is not set: publishing needs a token with the right to write"
UNKNOWN = "HF_TOKEN: the Hub does not know this token, or it has expired. Make a new one"
NO_RIGHT = "the account ana may not write there with this HF_TOKEN. Give the token that right in ana, or set HUB_NAMESPACE"
PUBLIC = "is public, and HUB_PRIVATE=true: make it private in its settings on the Hub, set HUB_PRIVATE=false"
WRITERS = {"write", "narrow on the namespace", "narrow on the repository"}
PLACES = ("private", "public", "missing")


@pytest.fixture
def hub(hub: HubServer) -> HubServer:
    """Ana with all kinds of tokens and two repositories; an organisation that she writes to, and one that she reads."""
    hub.add_token("ana", "hf_expired", "write")
    hub.expire_token("hf_expired")
    hub.add_token("ana", "hf_read", "read")
    for place in PLACES:
        hub.add_token("ana", f"hf_repo_{place}", FineGrained({f"datasets/ana/{place}": "write"}))
    hub.add_token("ana", "hf_nothing", FineGrained({}))
    hub.add_token("ana", "hf_other", FineGrained({"datasets/ana/other": "write", "bo": "write"}))
    hub.add_token("ana", "hf_reader", FineGrained({"ana": "read"}))
    hub.add_token("ana", "hf_space", FineGrained({"ana": "write"}))
    hub.add_user("bo", token="hf_bob")
    hub.add_organisation("writers", {"ana": "write"})
    hub.add_organisation("readers", {"ana": "read", "bo": "write"})
    hub.add_repo("dataset", "ana/private", private=True)
    hub.add_repo("dataset", "ana/public")
    return hub


def repositories(hub: HubServer) -> dict[str, tuple[str, bool] | None]:
    """Head and privacy of every repository that a test may touch."""
    names = [f"{space}/{place}" for space in ("ana", "bo", "writers", "readers") for place in PLACES]
    found: dict[str, tuple[str, bool] | None] = {}
    for name in names:
        try:
            repository = hub.repo("dataset", name)
            found[name] = (repository.head(), repository.private)
        except KeyError:
            found[name] = None
    return found


def checked(hub: Hub, repo_id: str) -> JobError | None:
    try:
        hub.check_target(repo_id)
    except JobError as error:
        return error
    return None


def expected(token: str, place: str, private: bool) -> str | None:
    """What the message has to say, None where the results may be published."""
    if token == "none":
        return NO_TOKEN
    if token in ("invalid", "expired"):
        return UNKNOWN
    if place == "public" and private:
        return PUBLIC
    return None if token in WRITERS else NO_RIGHT


@pytest.mark.parametrize(("token", "place", "private"), list(itertools.product(TOKENS, PLACES, (True, False))))
def test_a_token_may_publish_or_is_told_why_not(
    hub: HubServer, connect: Connect, token: str, place: str, private: bool
) -> None:
    value = f"hf_repo_{place}" if token == "narrow on the repository" else TOKENS[token]
    before = repositories(hub)
    error = checked(connect(hub, value, HUB_PRIVATE=private), f"ana/{place}")
    message = expected(token, place, private)
    assert (error is None) == (message is None), error
    if error and message:
        assert type(error) is AccessError
        assert message in str(error)
        if value:
            assert value not in str(error)
    assert repositories(hub) == before
    assert {seen.method for seen in hub.requests} <= {"GET"}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("namespace", "token", "allowed"),
    [
        ("bo", "hf_ana", False),
        ("bo", "hf_other", False),
        ("writers", "hf_ana", True),
        ("writers", "hf_read", False),
        ("writers", "hf_space", False),
        ("readers", "hf_ana", False),
        ("readers", "hf_bob", True),
        ("nobody", "hf_ana", False),
    ],
)
def test_another_namespace_takes_results_of_those_who_write_there(
    hub: HubServer, connect: Connect, namespace: str, token: str, allowed: bool, place: str
) -> None:
    if place != "missing":
        hub.add_repo("dataset", f"{namespace}/{place}", private=place == "private")
    before = repositories(hub)
    error = checked(connect(hub, token, HUB_PRIVATE=False), f"{namespace}/{place}")
    if allowed:
        assert error is None
    else:
        account = "bo" if token == "hf_bob" else "ana"
        assert isinstance(error, AccessError)
        assert str(error) == (
            f"{namespace}/{place}: the account {account} may not write there with this HF_TOKEN. Give the token that right "
            f"in {namespace}, or set HUB_NAMESPACE or HUB_REPO_ID to a place where it has it."
        )
    assert repositories(hub) == before


def test_a_private_repository_of_a_stranger_looks_like_one_that_may_not_be_made(hub: HubServer, connect: Connect) -> None:
    hub.add_repo("dataset", "bo/hidden", private=True)
    seen, missing = checked(connect(hub), "bo/hidden"), checked(connect(hub), "bo/nothing")
    assert str(seen).replace("hidden", "nothing") == str(missing)


@pytest.mark.parametrize("repo_id", ["ana/two words-results", "ana/m.git", f"ana/{'x' * 97}"])
def test_a_name_that_the_hub_does_not_take_is_a_mistake(hub: HubServer, connect: Connect, repo_id: str) -> None:
    """It may come from the name of a model's folder."""
    error = checked(connect(hub), repo_id)
    assert type(error) is SettingsError
    assert str(error).startswith(f"HUB_REPO_ID='{repo_id}': is not a valid Hub name: ")


@pytest.mark.parametrize("private", [True, False])
def test_the_repository_is_made_once_and_as_private_as_asked_for(hub: HubServer, connect: Connect, private: bool) -> None:
    connected = connect(hub, HUB_PRIVATE=private)
    for _ in range(2):
        connected.prepare_target("ana/missing")
    assert hub.repo("dataset", "ana/missing").private == private
    assert [seen.status for seen in hub.seen("POST", "/api/repos/create")] == [200]
    assert checked(connected, "ana/missing") is None


@pytest.mark.parametrize("repo_id", ["ana/private", "writers/missing"])
def test_a_repository_that_may_be_used_is_prepared(hub: HubServer, connect: Connect, repo_id: str) -> None:
    before = repositories(hub)["ana/private"]
    connect(hub).prepare_target(repo_id)
    assert hub.repo("dataset", repo_id).private
    assert repositories(hub)["ana/private"] == before


def test_a_public_repository_stays_public_and_is_refused(hub: HubServer, connect: Connect) -> None:
    with pytest.raises(AccessError, match="ana/public is public, and HUB_PRIVATE=true"):
        connect(hub).prepare_target("ana/public")
    assert not hub.repo("dataset", "ana/public").private
    connect(hub, HUB_PRIVATE=False).prepare_target("ana/public")


def test_a_repository_that_was_made_meanwhile_is_looked_at(hub: HubServer, connect: Connect) -> None:
    """Another run made it public between the look and the making: the library says nothing then."""
    hub.fail(Call(lambda _: hub.add_repo("dataset", "ana/missing")), path="/api/repos/create")
    with pytest.raises(AccessError, match="ana/missing is public"):
        connect(hub).prepare_target("ana/missing")


@pytest.mark.parametrize(("token", "repo_id"), [("hf_read", "ana/missing"), ("hf_ana", "bo/missing")])
def test_a_repository_that_may_not_be_made_is_a_refusal(hub: HubServer, connect: Connect, token: str, repo_id: str) -> None:
    with pytest.raises(AccessError, match=rf"the results' repository {repo_id}: the Hub refused access \(403\)"):
        connect(hub, token).prepare_target(repo_id)
    assert repositories(hub)[repo_id] is None


@pytest.mark.parametrize("path", ["/whoami-v2", "/api/datasets/ana/private", "/auth-check"])
def test_an_outage_during_the_check_is_waited_for_or_said_to_be_one(
    hub: HubServer, connect: Connect, time: FakeTime, path: str
) -> None:
    connected = connect(hub)
    hub.fail(Status(503), path=path, times=2)
    connected.check_target("ana/private")
    hub.fail(Status(503), path=path, times=None)
    with pytest.raises(HubUnavailableError, match="the results' repository ana/private: the Hub answered 503"):
        connected.check_target("ana/private")
    assert time.now < 60


def test_the_info_of_the_repository_names_its_files(hub: HubServer, connect: Connect) -> None:
    hub.repo("dataset", "ana/private").commit({"a.txt": "a"})
    info = prepare(connect(hub).api, Target("ana/private", private=True))
    assert {file.rfilename for file in info.siblings} == {".gitattributes", "a.txt"}
    assert all(file.blob_id for file in info.siblings)
