"""All repositories of a server."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from tests.hub_server.attributes import default_attributes
from tests.hub_server.blobs import Blobs, File
from tests.hub_server.errors import HubError
from tests.hub_server.repository import Gate, Kind, Repository
from tests.hub_server.trees import Put


class Store:
    """Repositories by kind and id. Contents lie on disk."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._lock = threading.Lock()
        self._repositories: dict[tuple[Kind, str], Repository] = {}

    def find(self, kind: Kind, repo_id: str) -> Repository | None:
        with self._lock:
            return self._repositories.get((kind, repo_id))

    def create(self, kind: Kind, repo_id: str, *, private: bool = False, gated: Gate = False) -> Repository:
        """A new repository with the first commit that the Hub makes. Raises: HubError where the name is taken."""
        if kind not in get_args(Kind) or repo_id.count("/") != 1:
            raise HubError(400, f"not a kind and id of a repository: {kind} {repo_id}")
        repository = Repository(kind, repo_id, self._blobs, private=private, gated=gated)
        attributes = self._blobs.write([default_attributes(kind)])
        repository.initialise([Put(".gitattributes", File.regular(attributes))])
        with self._lock:
            if (kind, repo_id) in self._repositories:
                raise HubError(409, f"You already created this {kind} repo: {repo_id}")
            self._repositories[kind, repo_id] = repository
        return repository

    def delete(self, kind: Kind, repo_id: str) -> None:
        with self._lock:
            del self._repositories[kind, repo_id]

    def fill(self, repository: Repository, files: Mapping[str, str | bytes], folder: Path | None) -> None:
        """One commit with these contents and with every file below a folder, which is served from where it lies."""
        blobs = {name: self._blobs.write([text.encode() if isinstance(text, str) else text]) for name, text in files.items()}
        if folder:
            found = (path for path in sorted(folder.rglob("*")) if path.is_file())
            blobs |= {path.relative_to(folder).as_posix(): self._blobs.adopt(path) for path in found}
        if blobs:
            repository.apply([Put(name, repository.stored(name, blob)) for name, blob in blobs.items()], "Add files")
