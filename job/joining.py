"""The end of a shard: its part joins those of the others, in OUTPUT_DIR or on the Hub, and the last one publishes the whole.

OUTPUT_DIR is tried first: where the shards share it, the whole is there, for people to look at too. Where it is not complete,
the shards may share no folder, or others may still be at work: both look the same. So the part goes to the Hub then, where it
has to go anyway: whoever publishes the whole finds its content there, and sends it no second time.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from job import gathering, publication, results, shard_branch
from job.plan import Plan
from job.protocols import Hub
from job.records import Copies, Published
from job.shard_branch import Meeting

Facts = Mapping[str, Any]
Publish = Callable[[Facts, Copies | None], Published | None]


@dataclass(frozen=True, slots=True)
class Joined:
    """What became of it. facts: the manifest of the whole, that of the part where shards are missing."""

    facts: Facts
    published: Published | None = None
    missing: Sequence[int] = ()


def found(plan: Plan, hub: Hub) -> Joined | Meeting | None:
    """What an earlier process of this shard, whose disk is gone, left on the Hub: the whole, or its part, or nothing.

    Where there is no branch the whole was read back before: who does that removes the branch after it.
    """
    if plan.repo_id is None:
        return None
    meeting = shard_branch.look(plan, plan.repo_id, hub)
    if meeting is not None:
        return meeting if meeting.own else None
    whole = shard_branch.published(plan, plan.repo_id, hub)
    return Joined(whole.facts, Published(plan.repo_id, whole.copies.commit)) if whole else None


def join(
    plan: Plan, facts: Facts, meeting: Meeting | None, hub: Hub, publish: Publish, alone: AbstractContextManager[None]
) -> Joined:
    """Publish the whole, if this part makes it one.

    facts: the manifest of the part; meeting: what is on the branch, where the part was found there, None where it is on this
    machine; alone: holds the lock of the folder.
    """
    with alone:
        whole, missing = gathering.gather(plan)
        if whole is not None:
            publication.check_failed_rows(plan, results.tally_of(whole))
            return Joined(whole, _published(plan, hub, publish, whole, None))
    if plan.repo_id is None:
        return Joined(facts, missing=missing)
    with publication.said_safe(plan.part_folder):
        meeting = meeting or shard_branch.look(plan, plan.repo_id, hub)
        if meeting is None or meeting.own is None:  # what is there stays: another process of this shard may have put it there
            meeting = shard_branch.contribute(plan, plan.repo_id, facts, hub)
        # First what is published: then the branch was removed before this part came, and made again for it.
        on_hub = shard_branch.published(plan, plan.repo_id, hub) or meeting.whole
    if on_hub is None:
        return Joined(facts, missing=meeting.missing)
    publication.check_failed_rows(plan, results.tally_of(on_hub.facts))
    return Joined(on_hub.facts, _published(plan, hub, publish, on_hub.facts, on_hub.copies))


def _published(plan: Plan, hub: Hub, publish: Publish, facts: Facts, copies: Copies | None) -> Published | None:
    published = publish(facts, copies)
    if published:
        hub.remove_branch(published.repo_id, shard_branch.branch_of(plan))
    return published
