"""The branch on which the shards of a run meet: each puts its part there, and who publishes the whole takes the branch away."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from job.hub.access import DATASET, Target, find, info_at, prepare
from job.hub.head import Head
from job.hub.retry import MismatchError
from job.records import Part

_NOT_FOUND = 404


def contribute(api: Any, target: Target, branch: str, part: Part) -> Head:
    """Have a part on the branch, which is made where it does not exist yet. May be called as often as it takes.

    Other shards do the same at the same time, each with files of its own: so no commit names the one that it builds on, and
    the Hub puts one after the other.

    Returns: a head of the branch that has the part. A branch has one history: of two shards that contribute at the same time,
    the later one's head has the part of both.
    Raises: errors of huggingface_hub as they are; MismatchError where the part is not there afterwards.
    """
    with vanishing(branch):
        return _contributed(api, target, branch, part)


@contextmanager
def vanishing(branch: str) -> Iterator[None]:
    """Another shard may publish the whole and remove the branch at any moment: the next attempt finds out."""
    from huggingface_hub.errors import RemoteEntryNotFoundError, RevisionNotFoundError

    try:
        yield
    except (RemoteEntryNotFoundError, RevisionNotFoundError) as error:
        raise MismatchError(f"the branch {branch} was removed") from error


def _contributed(api: Any, target: Target, branch: str, part: Part) -> Head:
    main = prepare(api, target)
    head = _head(api, target, branch)
    if head is None:
        api.create_branch(target.repo_id, branch=branch, revision=main.sha, repo_type=DATASET, exist_ok=True)
        head = Head.of(info_at(api, target, branch))
    if _is_there(head, part):
        return head
    _commit(api, target, branch, part)
    head = _head(api, target, branch)
    if head is None or not _is_there(head, part):
        raise MismatchError(f"{part.data_path} is not on the branch {branch} yet")
    return head


def remove(api: Any, target: Target, branch: str) -> None:
    """Remove the branch, unless another shard did."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api.delete_branch(target.repo_id, branch=branch, repo_type=DATASET)
    except HfHubHTTPError as error:
        if error.response.status_code != _NOT_FOUND:
            raise


def _head(api: Any, target: Target, branch: str) -> Head | None:
    info = find(api, target, branch)
    return None if info is None else Head.of(info)


def _is_there(head: Head, part: Part) -> bool:
    return head.has_file(part.data_path, part.data, part.sha256) and head.has_content(
        part.manifest_path, part.manifest.encode()
    )


def _commit(api: Any, target: Target, branch: str, part: Part) -> None:
    from huggingface_hub import CommitOperationAdd

    operations = [
        CommitOperationAdd(part.data_path, str(part.data)),
        CommitOperationAdd(part.manifest_path, part.manifest.encode()),
    ]
    api.create_commit(target.repo_id, operations, commit_message=part.title, repo_type=DATASET, revision=branch)
