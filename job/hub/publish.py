"""Publication: one commit that holds the data, the card and the manifest; verified by reading it back.

What is to be there is compared with what is there, and only the difference is committed. So an attempt whose answer was lost,
a second run of the same command and a twin that was faster all find nothing left to do. Each attempt reads the head anew and
commits on top of exactly that: a commit that came in between makes it fail, and the next attempt builds on the new head.
"""

import hashlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from job.errors import JobError
from job.hub.access import DATASET, Target, info_at, prepare
from job.hub.cache import cache_errors, check_content, forget, reading_errors
from job.hub.head import Head
from job.hub.retry import MismatchError, judge
from job.records import DataFile, Published, Release
from job.references import GIT_DIGEST_LENGTH, sha256_of

_REMEDY = "If it stays so, delete the repository there, or name another with HUB_REPO_ID"


class Publisher:
    """Publishes one release; `attempt` may be called as often as it takes."""

    def __init__(self, api: Any, target: Target, release: Release, rows_of: Callable[[str], int], verified: str | None) -> None:
        """rows_of: rows of the split that a reader gets at a commit; verified: a commit that was read back before."""
        self._api = api
        self._target = target
        self._release = release
        self._rows_of = rows_of
        self._verified = verified
        self._token = uuid.uuid4().hex
        self._tried = False

    def attempt(self) -> Published:
        """Commit what is missing, and verify it.

        Raises: errors of huggingface_hub as they are; MismatchError where what is there is not what belongs there.
        """
        commit = self._landed() if self._tried else None
        if commit is None:
            commit = self._committed()
        if commit != self._verified:
            self._verify(commit)
            self._verified = commit
        return Published(self._target.repo_id, commit)

    def _landed(self) -> str | None:
        """The commit of an earlier attempt of this publication, whose answer did not arrive."""
        return self._find(lambda commit: self._token in commit.message)

    def _committed(self) -> str:
        """The commit that has the release, made now if need be."""
        info = prepare(self._api, self._target)
        head = Head.of(info)
        operations = list(self._operations(head))
        if not operations:
            return self._find(lambda commit: commit.title == self._release.title) or head.commit
        self._tried = True
        done = self._commit(operations, head)
        # Where every file turned out to be there already the client commits nothing and names the head, whosever it is.
        oid: str = done.oid
        return oid if oid != head.commit else self._landed() or oid

    def _commit(self, operations: list[Any], head: Head) -> Any:
        from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

        try:
            return self._api.create_commit(
                self._target.repo_id,
                operations,
                commit_message=self._release.title,
                commit_description=f"Publication {self._token}",
                repo_type=DATASET,
                parent_commit=head.commit,
            )
        except (EntryNotFoundError, RevisionNotFoundError) as error:
            if self._release.copies is None:
                raise
            # Whoever published them has taken away the branch that they were on: the next attempt finds them published.
            raise MismatchError(f"what was to be copied is no longer there: {error}") from error

    def _operations(self, head: Head) -> Iterator[Any]:
        """What has to change to get from the head to the release. Built anew each time: the client alters what it is given."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        release = self._release
        for file in release.files:
            if not self._is_there(head, file):
                yield self._put(file)
        texts = release.texts(head.snapshot(self._api, self._target))
        for path, content in [*release.images.items(), *((path, text.encode()) for path, text in texts.items())]:
            if not head.has_content(path, content):
                yield CommitOperationAdd(path, content)
        ours = {file.path for file in release.files} | release.images.keys()
        for path in head.digests:
            if release.is_stale(path) and path not in ours:
                yield CommitOperationDelete(path)

    def _put(self, file: DataFile) -> Any:
        from huggingface_hub import CommitOperationAdd, CommitOperationCopy

        copies = self._release.copies
        if copies is None:
            return CommitOperationAdd(file.path, str(self._release.folder / file.path))
        return CommitOperationCopy(copies.sources[file.path], file.path, src_revision=copies.commit)

    def _is_there(self, head: Head, file: DataFile) -> bool:
        copies = self._release.copies
        if copies is None:
            return head.has_file(file.path, self._release.folder / file.path, file.sha256)
        return head.digests.get(file.path) == copies.digests[file.path]

    def _find(self, wanted: Callable[[Any], bool]) -> str | None:
        commits = self._api.list_repo_commits(self._target.repo_id, repo_type=DATASET)
        return next((commit.commit_id for commit in commits if wanted(commit)), None)

    def _verify(self, commit: str) -> None:
        """Read the data back as anyone would: what the Hub says of each file, its content, then the split.

        Raises: MismatchError.
        """
        from huggingface_hub.errors import RemoteEntryNotFoundError, RevisionNotFoundError

        try:
            self._check_files(commit)
        except (RemoteEntryNotFoundError, RevisionNotFoundError) as error:  # not every server has it at once
            raise MismatchError(f"the Hub does not show the commit {commit} yet") from error

    def _check_files(self, commit: str) -> None:
        head, files, images = Head.of(info_at(self._api, self._target, commit)), self._release.files, self._release.images
        there = {file.path: self._is_there(head, file) for file in files}
        there |= {path: head.has_content(path, content) for path, content in images.items()}
        if wrong := [path for path, is_there in there.items() if not is_there]:
            raise MismatchError(f"{wrong[0]} at {commit} is not what was sent, by the Hub's own digest")
        digests = {file.path: file.sha256 for file in files}
        digests |= {path: hashlib.sha256(content).hexdigest() for path, content in images.items()}
        try:
            with cache_errors():
                for path, sha256 in digests.items():
                    found = self._api.hf_hub_download(self._target.repo_id, path, repo_type=DATASET, revision=commit)
                    self._check_content(head, path, sha256, Path(found))
                expected, rows = sum(file.rows for file in files), self._loaded(commit)
        finally:
            forget(commit)
        if rows != expected:
            raise MismatchError(f"the split has {rows} rows at {commit}, not {expected}")

    def _check_content(self, head: Head, path: str, sha256: str, found: Path) -> None:
        try:
            check_content(path, found)
            if len(head.digests[path]) == GIT_DIGEST_LENGTH and sha256_of(found) != sha256:
                raise MismatchError(f"{path} at {head.commit} is not what its manifest says")
        except MismatchError as error:
            raise MismatchError(f"{error}. {_REMEDY}") from error

    def _loaded(self, commit: str) -> int:
        """The rows that a reader gets.

        Raises: MismatchError where it cannot be read; errors of the Hub and of the disk as they are.
        """
        try:
            with reading_errors(self._release.folder):
                return self._rows_of(commit)
        except Exception as error:
            of_the_disk, verdict = isinstance(error, OSError) and error.errno is not None, judge(error)
            if of_the_disk or isinstance(error, JobError) or (verdict.known and not verdict.doubtful):
                raise
            reason = " ".join(f"{error}: {error.__cause__ or ''}".split())
            raise MismatchError(f"the split cannot be loaded at {commit}: {reason}. {_REMEDY}") from error
