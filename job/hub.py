"""Edge: the Hugging Face Hub. Looks moving names up once, so that a run is pinned to commits."""

import re
from typing import Literal

from job.errors import AccessError, HubUnavailableError, Problem, SettingsError
from job.records import Source

LOOKUP_SECONDS = 30.0
_COMMIT = re.compile(r"[0-9a-f]{40}")


def resolve(kind: Literal["model", "dataset"], repo_id: str, revision: str, token: str | None) -> Source:
    """The commit that a revision of a repository stands for now. A full commit needs no request.

    Raises: SettingsError where the repository or revision does not exist, AccessError where it may not be read,
    HubUnavailableError where the Hub does not answer.
    """
    if _COMMIT.fullmatch(revision):
        return Source(repo_id, revision, local=False)
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    variable = f"{kind.upper()}_ID"
    try:
        info = HfApi(token=token).repo_info(repo_id, repo_type=kind, revision=revision, timeout=LOOKUP_SECONDS)
    except GatedRepoError as error:
        raise AccessError(
            f"{variable}={repo_id}: is gated. Accept its terms on its page, with the account of HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise SettingsError(
            [Problem(f"{kind.upper()}_REVISION", revision, f"{repo_id} has no such branch, tag or commit")]
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        message = f"no {kind} of this name on the Hub, nor a file or folder here; if it is private, set HF_TOKEN"
        raise SettingsError([Problem(variable, repo_id, message)]) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            raise AccessError(f"{variable}={repo_id}: the Hub refused access ({status}). Check HF_TOKEN.") from error
        raise HubUnavailableError(f"{variable}={repo_id}: the Hub answered {status}; try again later.") from error
    except (httpx.HTTPError, OSError, ValueError) as error:  # ValueError: a proxy's page where JSON is expected
        raise HubUnavailableError(f"{variable}={repo_id}: the Hub did not answer: {error}. Try again later.") from error
    if info.sha is None:
        raise HubUnavailableError(f"{variable}={repo_id}: the Hub named no commit; try again later.")
    return Source(repo_id, info.sha, local=False)
