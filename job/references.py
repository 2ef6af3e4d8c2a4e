"""What MODEL_ID and DATASET_ID refer to: a repository on the Hub, or files on this machine and the digest of their content."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from job.files import open_file
from job.threads import thread_pool

SHA256_LENGTH, GIT_DIGEST_LENGTH = 64, 40  # in hex
DATA_SUFFIXES = frozenset({".parquet", ".jsonl", ".json", ".csv"})


def is_local(reference: str) -> bool:
    """Whether the reference means files: it exists, is written as a path, or ends like a data file."""
    path = Path(reference)
    written_as_path = reference.startswith(("/", "./", "../", "~")) or reference.count("/") > 1
    return written_as_path or path.suffix in DATA_SUFFIXES or _exists(path)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name that is too long for a file
        return False


def base_name(reference: str) -> str:
    """The last part of a Hub id or path: the model's name in folders and repositories."""
    return Path(os.path.realpath(Path(reference).expanduser())).name if is_local(reference) else reference.rsplit("/", 1)[-1]


def run_name(model_id: str, lora_id: str | None) -> str:
    """The name of a model with its adapter, for folders and repositories."""
    return "-".join(base_name(reference) for reference in (model_id, lora_id) if reference)


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_blob_id(path: Path) -> str:
    """The name that git has for a file's content, in hex: what the Hub knows small files by."""
    return git_blob_id_of(path.read_bytes())


def git_blob_id_of(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def has_digest(path: Path, digest: str) -> bool:
    """Whether a file is the one that the Hub knows by this digest: SHA-256 of LFS files, git's SHA-1 of the others."""
    return digest == (sha256_of(path) if len(digest) == SHA256_LENGTH else git_blob_id(path))


def is_damaged(path: Path) -> bool:
    """Whether a file in the Hub's cache is not what its name says, a digest: the library does not compare."""
    content = path.resolve()
    return len(content.name) in (SHA256_LENGTH, GIT_DIGEST_LENGTH) and not has_digest(content, content.name)


def content_digest(path: Path) -> str:
    """Hex digest of a file, or of all files of a folder with their names (hidden ones left out): the same for a copy elsewhere.

    Raises: OSError where something cannot be read.
    """
    if path.is_file():
        return sha256_of(path)
    files = sorted(_visible_files(path), key=lambda file: file.relative_to(path).as_posix())
    with thread_pool() as pool:
        digests = pool.map(sha256_of, files)
        lines = [f"{digest} {file.relative_to(path).as_posix()}\n" for file, digest in zip(files, digests, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _visible_files(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _visible_files(entry)
        else:
            yield entry
