"""Looks moving names up once, so that a run is pinned to commits."""

import re
from typing import Any

from job.errors import HubUnavailableError, Problem, SettingsError
from job.hub_refusals import gated, missing
from job.local_files import VARIABLES
from job.records import Kind, Source

LOOKUP_SECONDS = 30.0
_REVISIONS: dict[Kind, str] = {"model": "MODEL_REVISION", "adapter": "LORA_REVISION", "dataset": "DATASET_REVISION"}
_COMMIT = re.compile(r"[0-9a-f]{40}")


def repo_type(kind: Kind) -> str:
    return "dataset" if kind == "dataset" else "model"


def is_commit(revision: str) -> bool:
    return _COMMIT.fullmatch(revision) is not None


def resolve(api: Any, kind: Kind, repo_id: str, revision: str) -> Source:
    """The commit that a revision of a repository stands for now; its files may be read. A full commit needs no request.

    Raises: SettingsError where the repository or revision does not exist, AccessError where its terms were not accepted; other
    errors of huggingface_hub as they are.
    """
    if is_commit(revision):
        return Source(repo_id, revision, local=False)
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = api.repo_info(repo_id, repo_type=repo_type(kind), revision=revision, timeout=LOOKUP_SECONDS)
        if getattr(info, "gated", False):  # anyone may look at it, but not at its files
            api.auth_check(repo_id, repo_type=repo_type(kind))
    except GatedRepoError as error:
        raise gated(kind, repo_id) from error
    except RevisionNotFoundError as error:
        raise SettingsError([Problem(_REVISIONS[kind], revision, f"{repo_id} has no such branch, tag or commit")]) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise missing(kind, repo_id) from error
    if info.sha is None:
        raise HubUnavailableError(f"{VARIABLES[kind]}={repo_id}: the Hub named no commit; try again later.")
    return Source(repo_id, info.sha, local=False)
