"""Who is asking, and what they may do: users, organisations, tokens."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.hub_server.errors import invalid_credentials

Role = Literal["read", "write"]


@dataclass(frozen=True, slots=True)
class FineGrained:
    """The rights of a fine-grained token.

    `scopes` maps a namespace (`ana`) or a repository (`models/ana/m`, `datasets/ana/d`) to read or write; write includes read.
    `gated` lets it open public gated repositories that its user was granted.
    """

    scopes: Mapping[str, Role] = field(default_factory=dict)
    gated: bool = False

    def allows(self, role: Role, *scopes: str) -> bool:
        return any(self.scopes.get(scope) in (role, "write") for scope in scopes)


Rights = Role | FineGrained


@dataclass(slots=True)
class Token:
    user: str
    rights: Rights
    requests_left: int | None = None
    """How many more requests it is good for, None for any number."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A user as seen through one token, or nobody."""

    name: str | None = None
    rights: Rights = "read"
    roles: Mapping[str, Role] = field(default_factory=dict)
    """The namespaces that the user belongs to."""

    def reads(self, namespace: str, scope: str) -> bool:
        """Whether private content of this repository may be seen."""
        if namespace not in self.roles:
            return False
        return not isinstance(self.rights, FineGrained) or self.rights.allows("read", namespace, scope)

    def writes(self, namespace: str, scope: str) -> bool:
        if self.roles.get(namespace) != "write":
            return False
        if isinstance(self.rights, FineGrained):
            return self.rights.allows("write", namespace, scope)
        return self.rights == "write"

    def opens_gated(self, namespace: str, scope: str, granted: bool) -> bool:
        """Whether files of a gated repository may be read; its owners need no grant."""
        if self.reads(namespace, scope):
            return True
        return granted and (not isinstance(self.rights, FineGrained) or self.rights.gated)


ANONYMOUS = Caller()


class Access:
    """The accounts. Names are not checked against the repositories: a namespace may have no user."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: set[str] = set()
        self._organisations: dict[str, dict[str, Role]] = {}
        self._tokens: dict[str, Token] = {}

    def add_user(self, name: str) -> None:
        with self._lock:
            self._users.add(name)

    def add_organisation(self, name: str, members: Mapping[str, Role]) -> None:
        with self._lock:
            self._organisations[name] = dict(members)

    def add_token(self, user: str, token: str, rights: Rights) -> None:
        with self._lock:
            if user not in self._users:
                raise ValueError(f"no user {user}: add_user comes first")
            self._tokens[token] = Token(user, rights)

    def expire(self, token: str, after: int = 0) -> None:
        """From now on the token is good for `after` more requests."""
        with self._lock:
            self._tokens[token].requests_left = after

    def authenticate(self, authorization: str | None) -> Caller:
        """Raises: HubError where there is a token, but not a valid one."""
        if authorization is None:
            return ANONYMOUS
        with self._lock:
            token = self._tokens.get(authorization.removeprefix("Bearer "))
            if token is None or token.requests_left == 0:
                raise invalid_credentials()
            if token.requests_left is not None:
                token.requests_left -= 1
            roles: dict[str, Role] = {token.user: "write"}
            roles |= {name: members[token.user] for name, members in self._organisations.items() if token.user in members}
            return Caller(token.user, token.rights, roles)
