"""huggingface_hub as users with all kinds of tokens, over http and https: the library tells some refusals apart by that."""

from collections.abc import Callable

import pytest
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from tests.hub_server import FineGrained, HubServer
from tests.hub_server.operations import add, commit

FILES = {"config.json": "{}"}
TOKENS = {
    "owner": "hf_ana",
    "reader": "hf_reader",
    "stranger": "hf_stranger",
    "granted": "hf_granted",
    "narrow": "hf_narrow",
    "open": "hf_open",
    "wrong": "hf_wrong",
    "nobody": None,
}


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def hub(scheme: str, request: pytest.FixtureRequest) -> HubServer:
    """Repositories of ana, public, private and gated, and callers of every kind."""
    server: HubServer = request.getfixturevalue("secure" if scheme == "https" else "plain")
    server.add_token("ana", "hf_reader", "read")
    server.add_token("ana", "hf_narrow", FineGrained({"datasets/ana/d": "write"}))
    server.add_user("bo", token=TOKENS["stranger"])
    server.add_user("cy", token=TOKENS["granted"])
    server.add_token("cy", "hf_open", FineGrained({"cy": "read"}))
    server.add_repo("dataset", "ana/d", files=FILES)
    server.add_repo("dataset", "ana/private", files=FILES, private=True)
    server.add_repo("model", "ana/gated", files=FILES, gated="manual").granted.add("cy")
    return server


def as_caller(hub: HubServer, who: str) -> HfApi:
    return HfApi(hub.url, token=TOKENS[who] or False)


def test_whoami_tells_name_organisations_and_rights(hub: HubServer) -> None:
    hub.add_organisation("lab", {"ana": "read"})
    told = as_caller(hub, "owner").whoami()
    assert (told["name"], told["orgs"][0]["name"], told["orgs"][0]["roleInOrg"]) == ("ana", "lab", "read")
    assert told["auth"]["accessToken"]["role"] == "write"
    narrow = as_caller(hub, "narrow").whoami()["auth"]["accessToken"]
    assert narrow["role"] == "fineGrained"
    assert narrow["fineGrained"]["canReadGatedRepos"] is False
    entity = {"type": "dataset", "name": "ana/d"}
    assert narrow["fineGrained"]["scoped"] == [{"entity": entity, "permissions": ["repo.content.read", "repo.write"]}]


def test_an_invalid_token_is_refused_everywhere(hub: HubServer) -> None:
    api = as_caller(hub, "wrong")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami()
    for attempt in (api.dataset_info, lambda name: api.auth_check(name, repo_type="dataset")):
        with pytest.raises(HfHubHTTPError, match="Invalid credentials in Authorization header") as error:
            attempt("ana/d")
        assert error.type is HfHubHTTPError


def test_a_token_expires_under_way(hub: HubServer) -> None:
    api = as_caller(hub, "owner")
    api.whoami()
    hub.expire_token("hf_ana", after=1)
    api.auth_check("ana/d", repo_type="dataset", write=True)
    with pytest.raises(HfHubHTTPError, match="401 Unauthorized"):
        commit(api, add("a.txt", "a"))
    assert [seen.status for seen in hub.requests] == [200, 200, 401]


@pytest.mark.parametrize("who", ["stranger", "nobody"])
@pytest.mark.parametrize("repo_id", ["ana/private", "ana/missing"])
def test_a_private_repository_looks_missing(hub: HubServer, scheme: str, who: str, repo_id: str) -> None:
    api = as_caller(hub, who)
    told_apart = scheme == "https" or who == "stranger"
    for attempt in (api.dataset_info, lambda name: api.auth_check(name, repo_type="dataset")):
        with pytest.raises(HfHubHTTPError) as error:
            attempt(repo_id)
        assert error.type is (RepositoryNotFoundError if told_apart else HfHubHTTPError)
        assert error.value.response.status_code == (401 if who == "nobody" else 404)


@pytest.mark.parametrize(("who", "allowed"), [("owner", True), ("reader", False), ("stranger", False), ("narrow", True)])
def test_writing_needs_the_right_to(hub: HubServer, who: str, allowed: bool) -> None:
    api = as_caller(hub, who)
    attempts: list[Callable[[], object]] = [
        lambda: api.auth_check("ana/d", repo_type="dataset", write=True),
        lambda: commit(api, add(f"{who}.txt", "x")),
        lambda: api.create_branch("ana/d", branch=who, repo_type="dataset"),
    ]
    for attempt in attempts:
        if allowed:
            attempt()
            continue
        with pytest.raises(HfHubHTTPError, match="403 Forbidden: You don't have the rights") as error:
            attempt()
        assert error.value.response.status_code == 403
    api.auth_check("ana/d", repo_type="dataset")


def test_nobody_writes(hub: HubServer) -> None:
    with pytest.raises(HfHubHTTPError) as error:
        commit(as_caller(hub, "nobody"), add("a.txt", "a"))
    assert error.value.response.status_code == 401


@pytest.mark.parametrize(("who", "allowed"), [("owner", True), ("reader", False), ("stranger", False), ("narrow", False)])
def test_a_namespace_takes_repositories_of_its_own(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, who: str, allowed: bool
) -> None:
    api = as_caller(hub, who)
    if allowed:
        assert api.create_repo("ana/new", repo_type="dataset").repo_id == "ana/new"
        return
    with pytest.raises(HfHubHTTPError, match="under the namespace ana"):
        api.create_repo("ana/new", repo_type="dataset")
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)  # the library forgets its endpoint here
    assert api.create_repo("ana/d", repo_type="dataset", exist_ok=True).repo_id == "ana/d"  # no right to write follows from it


def test_an_organisation_takes_what_its_writers_make(hub: HubServer) -> None:
    hub.add_organisation("lab", {"ana": "write", "bo": "read"})
    as_caller(hub, "owner").create_repo("lab/d", repo_type="dataset", private=True)
    as_caller(hub, "stranger").auth_check("lab/d", repo_type="dataset")
    for who, attempt in (("stranger", "403 Forbidden"), ("granted", "404 Client Error")):
        with pytest.raises(HfHubHTTPError, match=attempt):
            as_caller(hub, who).auth_check("lab/d", repo_type="dataset", write=True)


@pytest.mark.parametrize(
    ("who", "status"),
    [("owner", 200), ("granted", 200), ("stranger", 403), ("nobody", 401), ("open", 403), ("narrow", 403)],
)
def test_a_gate_opens_to_the_granted(hub: HubServer, who: str, status: int) -> None:
    api = as_caller(hub, who)
    assert api.model_info("ana/gated").gated == "manual"
    assert api.list_repo_files("ana/gated") == [".gitattributes", "config.json"]
    attempts: list[Callable[[], object]] = [
        lambda: api.auth_check("ana/gated"),
        lambda: hf_hub_download("ana/gated", "config.json", endpoint=hub.url, token=TOKENS[who] or False),
    ]
    for attempt in attempts:
        if status == 200:
            attempt()
            continue
        with pytest.raises(GatedRepoError, match="restricted" if who != "open" else "gated repositories") as error:
            attempt()
        assert error.value.response.status_code == status
