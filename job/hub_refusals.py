"""What the Hub refuses, in words for the operator: two stages meet these refusals."""

from job.errors import AccessError, Problem, SettingsError
from job.local_files import VARIABLES
from job.records import Kind


def gated(kind: Kind, repo_id: str) -> AccessError:
    return AccessError(
        f"{VARIABLES[kind]}={repo_id}: is gated. Accept its terms on its page, with the account of HF_TOKEN; a fine-grained "
        f"token needs the right to read gated repositories too."
    )


def missing(kind: Kind, repo_id: str) -> SettingsError:
    message = (
        f"no {kind} of this name on the Hub, nor a file or folder here. Check the name and HF_ENDPOINT; if it is private, "
        f"set HF_TOKEN to a token that may read it"
    )
    return SettingsError([Problem(VARIABLES[kind], repo_id, message)])
