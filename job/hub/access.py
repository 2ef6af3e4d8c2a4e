"""May the results be published? Asked before a model is loaded, and without changing anything; `prepare` comes later."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from job.errors import AccessError, Problem, SettingsError
from job.hub.resolve import LOOKUP_SECONDS

DATASET = "dataset"


@dataclass(frozen=True, slots=True)
class Target:
    """Where results go: a dataset repository, and whether it has to be private."""

    repo_id: str
    private: bool

    @property
    def namespace(self) -> str:
        return self.repo_id.partition("/")[0]


def check_target(api: Any, target: Target) -> None:
    """Whether the token may write the repository, or may make it where it does not exist yet.

    Raises: AccessError; SettingsError where the Hub has no such names; other errors of huggingface_hub as they are.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    who = _whoami(api)
    try:
        info = find(api, target)
        if info is None:
            _check_may_create(who, target)
        else:
            check_private(info, target)
            api.auth_check(target.repo_id, repo_type=DATASET, write=True)
    except HFValidationError as error:  # made of a folder's name, which may hold anything
        raise SettingsError([Problem("HUB_REPO_ID", target.repo_id, f"is not a valid Hub name: {error}")]) from error
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in (401, 403, 404):
            raise _no_right(who, target) from error
        raise


def prepare(api: Any, target: Target) -> Any:
    """The repository's info; it is made where it does not exist yet.

    Raises: AccessError where it is public and has to be private.
    """
    info = find(api, target)
    if info is None:
        api.create_repo(target.repo_id, repo_type=DATASET, private=target.private, exist_ok=True)
        info = info_at(api, target)
    check_private(info, target)
    return info


def find(api: Any, target: Target, branch: str | None = None) -> Any | None:
    """The repository's info at its head or that of a branch, with the digests of its files; None where it does not exist."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return info_at(api, target, branch)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return None
    except RevisionNotFoundError:
        if branch is None:
            raise
        return None


def info_at(api: Any, target: Target, revision: str | None = None) -> Any:
    """Raises: errors of huggingface_hub where there is no such repository or revision."""
    return api.repo_info(target.repo_id, repo_type=DATASET, revision=revision, files_metadata=True, timeout=LOOKUP_SECONDS)


def check_private(info: Any, target: Target) -> None:
    """The library leaves an existing public repository public, without a word."""
    if target.private and not info.private:
        raise AccessError(
            f"{target.repo_id} is public, and HUB_PRIVATE=true: make it private in its settings on the Hub, set "
            f"HUB_PRIVATE=false, or name another repository with HUB_REPO_ID."
        )


def _whoami(api: Any) -> Mapping[str, Any]:
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        who: Mapping[str, Any] = api.whoami()
    except LocalTokenNotFoundError as error:
        raise AccessError("HF_TOKEN is not set: publishing needs a token with the right to write.") from error
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code == 401:
            raise AccessError("HF_TOKEN: the Hub does not know this token, or it has expired. Make a new one.") from error
        raise
    return who


def _check_may_create(who: Mapping[str, Any], target: Target) -> None:
    """By what the Hub says of the account and the token, as there is no repository yet to ask about."""
    roles = {who["name"]: "admin"} | {each["name"]: each.get("roleInOrg", "read") for each in who.get("orgs", ())}
    if roles.get(target.namespace, "read") == "read" or not _token_writes(who, target):
        raise _no_right(who, target)


def _token_writes(who: Mapping[str, Any], target: Target) -> bool:
    token = who.get("auth", {}).get("accessToken", {})
    role = token.get("role", "write")
    if role != "fineGrained":
        return bool(role != "read")
    return any("repo.write" in rights for rights in _rights_on(token, target))


def _rights_on(token: Mapping[str, Any], target: Target) -> Iterator[list[str]]:
    """The rights of a fine-grained token that count for the repository: those on it and those on its namespace."""
    for scope in token.get("fineGrained", {}).get("scoped", ()):
        if scope["entity"]["name"] in (target.namespace, target.repo_id):
            yield scope["permissions"]


def _no_right(who: Mapping[str, Any], target: Target) -> AccessError:
    return AccessError(
        f"{target.repo_id}: the account {who['name']} may not write there with this HF_TOKEN. Give the token that right "
        f"in {target.namespace}, or set HUB_NAMESPACE or HUB_REPO_ID to a place where it has it."
    )
