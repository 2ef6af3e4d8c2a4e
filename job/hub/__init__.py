"""Edge: the Hugging Face Hub. All requests go through here; those of `datasets` through the client that is limited here.

- client: limits on requests and on waiting
- retry: which errors pass by themselves, and how long to wait for that
- resolve: names -> commits
- snapshots, cache: the files of a model
- access: may the results be published?
- head, publish: one commit, verified
- branch: where the shards of a run meet
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import structlog

from job.errors import HubUnavailableError, JobError
from job.hub import branch as branches
from job.hub.access import Target, check_target, find, prepare
from job.hub.client import Limits, limit_requests
from job.hub.head import Head
from job.hub.publish import Publisher
from job.hub.resolve import resolve
from job.hub.retry import Patience
from job.hub.snapshots import HubFiles
from job.local_files import VARIABLES
from job.protocols import ModelFiles, Stop
from job.records import Kind, Part, Published, Release, Snapshot, Source
from job.settings import HubSettings

__all__ = ["Hub", "connect"]

LOOKUP_PATIENCE_SECONDS = 30.0  # a Hub that is down at the start is said to be so in seconds
READ_PATIENCE_SECONDS = 300.0

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Hub:
    """The Hub as this run uses it: with its token, its limits and its patience."""

    api: Any
    settings: HubSettings
    patience: Patience

    def resolve(self, kind: Kind, repo_id: str, revision: str) -> Source:
        """The commit of a revision. Raises: SettingsError, AccessError, HubUnavailableError."""
        attempt = partial(resolve, self.api, kind, repo_id, revision)
        try:
            return self.patience(attempt, f"{VARIABLES[kind]}={repo_id}", LOOKUP_PATIENCE_SECONDS)
        except HubUnavailableError as error:  # which a mistyped path meets too
            raise HubUnavailableError(f"{error} There is no file or folder of this name here.") from error

    def files(self, kind: Kind, source: Source, *, any_format: bool) -> ModelFiles:
        """The files of a model or adapter; nothing is asked or fetched yet."""
        return HubFiles(self.api, self.patience, kind, source, any_format=any_format)

    def read(self, attempt: Callable[[], T], doing: str) -> T:
        """Something that another library reads from the Hub, tried again while it fails for a reason that passes."""
        return self.patience(attempt, doing, READ_PATIENCE_SECONDS)

    def check_target(self, repo_id: str) -> None:
        """Raises: AccessError where the results may not be published there. Changes nothing."""
        self._looked_up(repo_id, check_target)

    def prepare_target(self, repo_id: str) -> None:
        """Make the repository for the results where it does not exist yet: no other check of the right to it can be trusted."""
        self._looked_up(repo_id, prepare)

    def look(self, repo_id: str, see: Callable[[Snapshot], T], branch: str | None = None) -> T | None:
        """What `see` makes of a results repository, or of a branch of it; None where it does not exist."""
        target = self._target(repo_id)

        def attempt() -> T | None:
            info = find(self.api, target, branch)
            with branches.vanishing(branch) if branch else nullcontext():
                return None if info is None else see(Head.of(info).snapshot(self.api, target))

        seconds = READ_PATIENCE_SECONDS if branch else LOOKUP_PATIENCE_SECONDS  # of a hundred shards, as many manifests
        return self.patience(attempt, f"the results' repository {repo_id}", seconds)

    def publish(self, repo_id: str, release: Release, rows_of: Callable[[str], int], verified: str | None) -> Published:
        """Publish a release and read it back. rows_of, verified: see Publisher.

        Raises: AccessError at the first refusal; HubUnavailableError where HUB_DEADLINE_SECONDS passed. Either nothing is
        published then, or all of it: the same call finds out which.
        """
        publisher = Publisher(self.api, self._target(repo_id), release, rows_of, verified)
        return self.patience(
            publisher.attempt, f"publishing to {repo_id}", self.settings.hub_deadline_seconds, event="upload_retry"
        )

    def contribute(self, repo_id: str, branch: str, part: Part, see: Callable[[Snapshot], T]) -> T:
        """What `see` makes of a branch that this part was put on, and that has it. Raises: as `publish`."""
        target = self._target(repo_id)

        def attempt() -> T:
            with branches.vanishing(branch):
                return see(branches.contribute(self.api, target, branch, part).snapshot(self.api, target))

        doing = f"putting {part.data_path} on the branch {branch} of {repo_id}"
        return self.patience(attempt, doing, self.settings.hub_deadline_seconds, event="upload_retry")

    def remove_branch(self, repo_id: str, branch: str) -> None:
        """Remove a branch that has served its purpose; where that fails it stays, and does no harm."""
        try:
            self._looked_up(repo_id, lambda api, target: branches.remove(api, target, branch))
        except JobError as error:
            log.warning("branch_left", repo_id=repo_id, branch=branch, error=str(error))

    def _looked_up(self, repo_id: str, check: Callable[[Any, Target], object]) -> None:
        target = self._target(repo_id)
        self.patience(lambda: check(self.api, target), f"the results' repository {repo_id}", LOOKUP_PATIENCE_SECONDS)

    def _target(self, repo_id: str) -> Target:
        return Target(repo_id, self.settings.hub_private)


def connect(
    settings: HubSettings,
    stop: Stop,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    on_retry: Callable[[str], object] = lambda event: None,
) -> Hub:
    """The Hub of this process. No request is sent yet.

    on_retry: gets each event that is logged before an attempt is repeated.
    """
    from huggingface_hub import HfApi

    limits = Limits(stop, clock)
    limit_requests(limits)
    return Hub(HfApi(token=settings.token), settings, Patience(limits, stop, sleep, on_retry))
