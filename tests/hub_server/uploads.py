"""Uploads of LFS objects under way: each has a secret name that stands in its address, as a signature does."""

import hashlib
import secrets
import threading
from dataclasses import dataclass, field

from tests.hub_server.blobs import Blob
from tests.hub_server.errors import HubError
from tests.hub_server.repository import Repository


@dataclass(slots=True)
class Upload:
    """One object on its way to a repository, as announced by the client."""

    repository: Repository
    oid: str
    size: int
    parts: dict[int, tuple[str, Blob]] = field(default_factory=dict)
    """ETag and content by part number."""

    def check(self, blob: Blob) -> None:
        """Raises: HubError where the content is not the announced one."""
        if (blob.sha256, blob.size) != (self.oid, self.size):
            raise HubError(400, f"BadDigest: {blob.size} bytes of sha256 {blob.sha256} in place of {self.size} of {self.oid}")


class Uploads:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uploads: dict[str, Upload] = {}

    def open(self, repository: Repository, oid: str, size: int) -> str:
        """The name of a new upload."""
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._uploads[name] = Upload(repository, oid, size)
        return name

    def find(self, name: str) -> Upload:
        """Raises: HubError where there is none."""
        with self._lock:
            if name not in self._uploads:
                raise HubError(403, "AccessDenied: Request has expired")
            return self._uploads[name]


def etag(blob: Blob) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in blob.chunks():
        digest.update(chunk)
    return f'"{digest.hexdigest()}"'
