"""The Hub-compatible server as a test sees it."""

import re
import shutil
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.hub_server.access import Access, Rights, Role
from tests.hub_server.application import Application, Seen
from tests.hub_server.blobs import Blobs
from tests.hub_server.context import Context
from tests.hub_server.faults import Fault, Rule, Rules
from tests.hub_server.listener import ADDRESS, Listener
from tests.hub_server.repository import Gate, Kind, Repository
from tests.hub_server.store import Store
from tests.hub_server.uploads import Uploads


class HubServer:
    """Two ports of the loopback interface: the Hub, and the storage that it redirects to. A context manager.

    `tls` serves https, with a certificate that a client trusts by `environment` or `certificates`. `page_size` is that of
    trees and commit lists; LFS files of more than `part_size` bytes are uploaded in parts.
    """

    def __init__(self, *, tls: bool = False, page_size: int = 1000, part_size: int | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="hub-"))
        self.certificates = self._folder / "ca.pem" if tls else None
        """The file of the authority that signed the certificate, None without TLS."""
        context = _certified(self.certificates) if self.certificates else None
        self._hub, self._storage = Listener("hub", context), Listener("storage", context)
        blobs = Blobs(self._folder / "blobs")
        self._access, self._store, self._rules = Access(), Store(blobs), Rules()
        self.url, self.storage_url = self._hub.url, self._storage.url
        self._application = Application(
            Context(self.url, self.storage_url, self._store, self._access, blobs, Uploads(), page_size, part_size), self._rules
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        bugs = self.stop()
        if bugs and error is None:
            raise bugs[0]

    def start(self) -> None:
        self._hub.start(self._application.answer)
        self._storage.start(self._application.answer)

    def stop(self) -> list[BaseException]:
        """End all connections. What went wrong in the server itself."""
        self._hub.stop()
        self._storage.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
        return [*self._application.bugs, *self._hub.bugs, *self._storage.bugs]

    def add_user(self, name: str, *, token: str | None = None, rights: Rights = "write") -> None:
        """A user, with a first token if one is given."""
        self._access.add_user(name)
        if token:
            self._access.add_token(name, token, rights)

    def add_token(self, user: str, token: str, rights: Rights) -> None:
        self._access.add_token(user, token, rights)

    def add_organisation(self, name: str, members: Mapping[str, Role]) -> None:
        self._access.add_organisation(name, members)

    def expire_token(self, token: str, *, after: int = 0) -> None:
        """The token is good for `after` more requests."""
        self._access.expire(token, after)

    def add_repo(
        self,
        kind: Kind,
        repo_id: str,
        *,
        files: Mapping[str, str | bytes] | None = None,
        folder: Path | None = None,
        private: bool = False,
        gated: Gate = False,
    ) -> Repository:
        """A repository with these contents and the files of this folder, which are not copied and must stay as they are."""
        repository = self._store.create(kind, repo_id, private=private, gated=gated)
        self._store.fill(repository, files or {}, folder)
        return repository

    def repo(self, kind: Kind, repo_id: str) -> Repository:
        """A repository that a client may have made. Raises: KeyError where there is none."""
        repository = self._store.find(kind, repo_id)
        if repository is None:
            raise KeyError(f"{kind} {repo_id}")
        return repository

    def fail(self, fault: Fault, *, method: str | None = None, path: str = "", times: int | None = 1, skip: int = 0) -> Rule:
        """Let a fault happen to the next `times` requests (None: all) that match, after the first `skip` of them.

        `path` is a regular expression, searched in the path and query as they are sent, on both ports.
        """
        return self._rules.add(Rule(fault, method, path, times, skip))

    def recover(self) -> None:
        """Forget all rules."""
        self._rules.clear()

    @property
    def requests(self) -> list[Seen]:
        """Every request so far, in the order of the answers."""
        return self._application.seen

    def seen(self, method: str, path: str = "") -> list[Seen]:
        """The requests of this method whose path and query hold this pattern."""
        return [seen for seen in self.requests if seen.method == method and re.search(path, seen.path)]

    def environment(self, token: str | None = None) -> dict[str, str]:
        """Environment variables for a client process, with a new empty cache. Lay them over those that the process has."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": tempfile.mkdtemp(prefix="home-", dir=self._folder),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_TOKEN": token or "",
            "HUGGING_FACE_HUB_TOKEN": "",
            "NO_PROXY": ADDRESS,
            "no_proxy": ADDRESS,
        } | ({"SSL_CERT_FILE": str(self.certificates)} if self.certificates else {})


def _certified(authority_file: Path) -> ssl.SSLContext:
    """TLS with a certificate for the loopback address; the authority's own goes to a file."""
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(authority_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(ADDRESS, "localhost").configure_cert(context)
    return context
