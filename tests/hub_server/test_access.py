"""Tokens, roles and rights, without HTTP."""

import pytest

from tests.hub_server import FineGrained
from tests.hub_server.access import ANONYMOUS, Access, Caller, Rights
from tests.hub_server.errors import HubError

SCOPE = "datasets/ana/d"


@pytest.fixture
def access() -> Access:
    accounts = Access()
    accounts.add_user("ana")
    accounts.add_user("bo")
    accounts.add_organisation("lab", {"ana": "write", "bo": "read"})
    return accounts


def caller(access: Access, user: str, rights: Rights) -> Caller:
    access.add_token(user, "hf_token", rights)
    return access.authenticate("Bearer hf_token")


def test_without_a_token_nobody_is_asking(access: Access) -> None:
    assert access.authenticate(None) is ANONYMOUS
    assert not ANONYMOUS.reads("ana", SCOPE)
    assert not ANONYMOUS.writes("ana", SCOPE)


@pytest.mark.parametrize("authorization", ["Bearer hf_other", "hf", "", "Basic hf_ana"])
def test_an_unknown_token_is_refused(access: Access, authorization: str) -> None:
    with pytest.raises(HubError, match="Invalid credentials") as error:
        access.authenticate(authorization)
    assert error.value.status == 401


def test_a_token_needs_its_user(access: Access) -> None:
    with pytest.raises(ValueError, match="no user eve"):
        access.add_token("eve", "hf_eve", "read")


def test_a_token_expires_after_some_requests(access: Access) -> None:
    access.add_token("ana", "hf_ana", "write")
    access.expire("hf_ana", after=2)
    assert [access.authenticate("Bearer hf_ana").name for _ in range(2)] == ["ana", "ana"]
    with pytest.raises(HubError):
        access.authenticate("Bearer hf_ana")


@pytest.mark.parametrize(
    ("user", "rights", "namespace", "reads", "writes"),
    [
        ("ana", "write", "ana", True, True),
        ("ana", "read", "ana", True, False),
        ("ana", "write", "lab", True, True),
        ("bo", "write", "lab", True, False),
        ("bo", "write", "ana", False, False),
        ("ana", FineGrained(), "ana", False, False),
        ("ana", FineGrained({"ana": "read"}), "ana", True, False),
        ("ana", FineGrained({"ana": "write"}), "ana", True, True),
        ("ana", FineGrained({"ana": "write"}), "lab", False, False),
        ("ana", FineGrained({"datasets/ana/d": "write"}), "ana", True, True),
        ("ana", FineGrained({"models/ana/d": "write"}), "ana", False, False),
        ("bo", FineGrained({"lab": "write"}), "lab", True, False),
        ("bo", FineGrained({"ana": "write"}), "ana", False, False),
    ],
)
def test_rights_are_those_of_the_user_and_of_the_token(
    access: Access, user: str, rights: Rights, namespace: str, reads: bool, writes: bool
) -> None:
    asking = caller(access, user, rights)
    assert asking.reads(namespace, f"datasets/{namespace}/d") == reads
    assert asking.writes(namespace, f"datasets/{namespace}/d") == writes


@pytest.mark.parametrize(
    ("user", "rights", "granted", "opens"),
    [
        ("ana", "read", False, True),
        ("bo", "read", False, False),
        ("bo", "read", True, True),
        ("bo", FineGrained(), True, False),
        ("bo", FineGrained(gated=True), True, True),
        ("bo", FineGrained(gated=True), False, False),
    ],
)
def test_a_gate_opens_to_owners_and_the_granted(access: Access, user: str, rights: Rights, granted: bool, opens: bool) -> None:
    assert caller(access, user, rights).opens_gated("ana", SCOPE, granted) == opens
