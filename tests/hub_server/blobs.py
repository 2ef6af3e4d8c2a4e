"""Contents on disk, so that large files do not live in memory. Every stored content is a file of its own, never shared."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.hub_server.messages import FileSlice


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored content, with the size and the hash that it had when it came in."""

    path: Path
    size: int
    sha256: str

    def chunks(self) -> Iterator[bytes]:
        return FileSlice(self.path, 0, self.size).chunks()


@dataclass(frozen=True, slots=True)
class File:
    """A file of a repository: its content, and how git knows it."""

    blob: Blob
    oid: str
    """The git blob id: of the content, or of the LFS pointer."""
    is_lfs: bool

    @classmethod
    def regular(cls, blob: Blob) -> "File":
        return cls(blob, git_blob_id(blob.size, blob.chunks()), is_lfs=False)

    @classmethod
    def lfs(cls, blob: Blob) -> "File":
        pointer = lfs_pointer(blob.sha256, blob.size)
        return cls(blob, git_blob_id(len(pointer), [pointer]), is_lfs=True)

    @property
    def size(self) -> int:
        return self.blob.size

    @property
    def content_id(self) -> str:
        """What ETag and preupload name: the sha256 of an LFS file, the git blob id of any other."""
        return self.blob.sha256 if self.is_lfs else self.oid


class Blobs:
    """The contents of one server, below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir()
        self._numbers = itertools.count()

    def write(self, chunks: Iterable[bytes]) -> Blob:
        path = self._folder / str(next(self._numbers))
        digest, size = hashlib.sha256(), 0
        with path.open("xb") as file:
            for chunk in chunks:
                digest.update(chunk)
                size += file.write(chunk)
        return Blob(path, size, digest.hexdigest())

    def adopt(self, path: Path) -> Blob:
        """Serve a file from where it lies."""
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Blob(path, path.stat().st_size, sha256)

    def corrupt(self, blob: Blob) -> None:
        """Change one byte in the middle; size and known hash stay. Only of written contents, never of adopted ones."""
        if blob.path.parent != self._folder:
            raise ValueError(f"not a content of this store: {blob.path}")
        with blob.path.open("r+b") as file:
            file.seek(blob.size // 2)
            byte = file.read(1)
            file.seek(blob.size // 2)
            file.write(flipped(byte))


def flipped(data: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in data)


def git_blob_id(size: int, chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def lfs_pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
