"""What a results repository has at its head: the commit, the files, and the texts among them."""

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from job.hub.access import DATASET, Target
from job.hub.cache import reading_errors
from job.hub.retry import MismatchError
from job.records import Snapshot
from job.references import GIT_DIGEST_LENGTH, git_blob_id_of, has_digest
from job.scratch import temporary_folder


@dataclass(frozen=True, slots=True)
class Head:
    """A commit, and the digest of each of its files: SHA-256 of LFS files, git's SHA-1 of the others."""

    commit: str
    digests: Mapping[str, str]

    @classmethod
    def of(cls, info: Any) -> Self:
        """info: as huggingface_hub gives it, with the metadata of files."""
        return cls(info.sha, {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in info.siblings})

    def has_file(self, path: str, local: Path, sha256: str) -> bool:
        """By the Hub's own digest, which is git's where the repository's .gitattributes keep the file out of LFS."""
        digest = self.digests.get(path, "")
        return digest == sha256 or (len(digest) == GIT_DIGEST_LENGTH and has_digest(local, digest))

    def has_content(self, path: str, content: bytes) -> bool:
        return self.digests.get(path) in (git_blob_id_of(content), hashlib.sha256(content).hexdigest())

    def snapshot(self, api: Any, target: Target) -> Snapshot:
        return Snapshot(self.commit, self.digests, partial(self.read, api, target))

    def read(self, api: Any, target: Target, path: str) -> str | None:
        """A text file, None where it is not there.

        Raises: ValueError where it is no text; MismatchError where it came damaged; errors of huggingface_hub as they are.
        """
        if path not in self.digests:
            return None
        with reading_errors(temporary_folder()), tempfile.TemporaryDirectory() as folder:
            found = api.hf_hub_download(target.repo_id, path, repo_type=DATASET, revision=self.commit, local_dir=folder)
            if not has_digest(Path(found), self.digests[path]):
                raise MismatchError(f"{path} came damaged from the Hub")
            try:
                return Path(found).read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"its {path} is not UTF-8") from error
