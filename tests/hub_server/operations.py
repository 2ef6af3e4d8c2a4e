"""What the contract tests send: operations of a commit, and the commit to the dataset ana/d."""

import io
import os
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi

CARD = "---\nlicense: mit\n---\n# Answers\n"
TABLE = os.urandom(5000)
DATA_ARGUMENT = "ignore:Use 'content=:DeprecationWarning"
"""The warning that huggingface_hub 2.4 makes httpx2 give at each upload to the storage."""

Operation = CommitOperationAdd | CommitOperationCopy | CommitOperationDelete


def add(path: str, content: bytes | str | Path | io.BytesIO) -> CommitOperationAdd:
    return CommitOperationAdd(path, content.encode() if isinstance(content, str) else content)


def commit(api: HfApi, *operations: Operation, parent: str | None = None, revision: str = "main") -> str:
    """The id of the commit that the client believes it made."""
    done = api.create_commit(
        "ana/d", operations, commit_message="Change", repo_type="dataset", parent_commit=parent, revision=revision
    )
    return done.oid
