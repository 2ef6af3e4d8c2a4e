"""One repository: commits, branches, tags, and the LFS objects that were uploaded to it. Nothing here knows HTTP."""

import hashlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal

from tests.hub_server.attributes import is_stored_by_lfs
from tests.hub_server.blobs import Blob, Blobs, File
from tests.hub_server.errors import HubError, entry_not_found, revision_not_found, stale_parent
from tests.hub_server.trees import Delete, Operation, Put, Tree, changed

Kind = Literal["model", "dataset"]
Gate = Literal[False, "auto", "manual"]

_ATTRIBUTES = ".gitattributes"


@dataclass(frozen=True, slots=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: datetime
    tree: Tree = field(repr=False)


class Repository:
    """Commits only grow and are never changed; one lock guards the branches, so that of two commits on one parent one fails."""

    def __init__(self, kind: Kind, repo_id: str, blobs: Blobs, *, private: bool = False, gated: Gate = False) -> None:
        self.kind = kind
        self.id = repo_id
        self.private = private
        self.gated: Gate = gated
        self.granted: set[str] = set()
        """Users that were let into a gated repository."""
        self.objects: dict[str, Blob] = {}
        """Uploaded LFS objects by sha256, committed or not."""
        self._blobs = blobs
        self._lock = threading.RLock()
        self._commits: dict[str, Commit] = {}
        self._branches: dict[str, str] = {}
        self._tags: dict[str, str] = {}

    @property
    def namespace(self) -> str:
        return self.id.partition("/")[0]

    @property
    def scope(self) -> str:
        """`models/ana/m`: how the paths of the API and fine-grained tokens name it."""
        return f"{self.kind}s/{self.id}"

    @property
    def branches(self) -> Mapping[str, str]:
        with self._lock:
            return dict(self._branches)

    @property
    def tags(self) -> Mapping[str, str]:
        with self._lock:
            return dict(self._tags)

    def find(self, revision: str) -> Commit:
        """The commit of a branch, tag or full id. Raises: HubError where there is none."""
        name = revision.removeprefix("refs/heads/")
        with self._lock:
            oid = self._branches.get(name) or self._tags.get(revision) or revision
            if oid not in self._commits:
                raise revision_not_found(revision)
            return self._commits[oid]

    def head(self, branch: str = "main") -> str:
        return self.find(branch).oid

    def history(self, revision: str = "main") -> list[Commit]:
        """The commits, newest first."""
        commits = [self.find(revision)]
        while parent := commits[-1].parent:
            commits.append(self._commits[parent])
        return commits

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """All contents, by path."""
        return {path: b"".join(file.blob.chunks()) for path, file in self.find(revision).tree.items()}

    def file(self, path: str, revision: str = "main") -> File:
        """Raises: HubError where there is no such file."""
        tree = self.find(revision).tree
        if path not in tree:
            raise entry_not_found(path)
        return tree[path]

    def attributes(self, revision: str) -> bytes:
        file = self.find(revision).tree.get(_ATTRIBUTES)
        return b"".join(file.blob.chunks()) if file else b""

    def apply(
        self,
        operations: Iterable[Operation],
        title: str,
        *,
        branch: str = "main",
        message: str = "",
        author: str = "",
        parent: str | None = None,
    ) -> Commit:
        """Commit to a branch. Where `parent` is given, it must be its head.

        Raises: HubError where the branch is not there, the parent is stale, or an operation is not possible.
        """
        with self._lock:
            head = self._branches.get(branch.removeprefix("refs/heads/"))
            if head is None:
                raise revision_not_found(branch)
            if parent is not None and parent != head:
                raise stale_parent()
            tree = changed(self._commits[head].tree, operations)
            return self._advance(branch.removeprefix("refs/heads/"), tree, title, message, author or self.namespace)

    def initialise(self, operations: Iterable[Operation]) -> Commit:
        """The first commit, on a main branch that it makes."""
        with self._lock:
            return self._advance("main", changed({}, operations), "initial commit", "", self.namespace)

    def commit(
        self, files: Mapping[str, str | bytes | None], title: str = "Change files", *, branch: str = "main", author: str = ""
    ) -> str:
        """What a test commits by itself: contents by path, None deletes. The id of the new commit."""
        contents = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
        operations = [
            Delete(path) if content is None else Put(path, self.stored(path, self._blobs.write([content]), branch))
            for path, content in contents.items()
        ]
        return self.apply(operations, title, branch=branch, author=author).oid

    def stored(self, path: str, blob: Blob, revision: str = "main") -> File:
        """A content as a file, by LFS if this path and size are stored so."""
        if not is_stored_by_lfs(path, blob.size, self.attributes(revision)):
            return File.regular(blob)
        self.objects[blob.sha256] = blob
        return File.lfs(blob)

    def create_branch(self, name: str, revision: str = "main") -> None:
        with self._lock:
            if name in self._branches:
                raise HubError(409, f"Reference already exists: {name}")
            self._branches[name] = self.find(revision).oid

    def delete_branch(self, name: str) -> None:
        with self._lock:
            if name == "main":
                raise HubError(403, "The default branch cannot be deleted")
            if self._branches.pop(name, None) is None:
                raise revision_not_found(name)

    def create_tag(self, name: str, revision: str = "main") -> None:
        with self._lock:
            if name in self._tags:
                raise HubError(409, f"Tag already exists: {name}")
            self._tags[name] = self.find(revision).oid

    def _advance(self, branch: str, tree: Tree, title: str, message: str, author: str) -> Commit:
        parent = self._branches.get(branch)
        content = [self.scope, len(self._commits), parent, title, message, sorted((path, tree[path].oid) for path in tree)]
        oid = hashlib.sha1(repr(content).encode(), usedforsecurity=False).hexdigest()
        self._commits[oid] = Commit(oid, parent, title, message, author, datetime.now(UTC), MappingProxyType(dict(tree)))
        self._branches[branch] = oid
        return self._commits[oid]
