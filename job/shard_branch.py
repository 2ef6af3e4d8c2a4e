"""The results of all shards, put together on the Hub: where they share no folder, they meet on a branch of the repository.

Each shard puts its part on the branch `run-<identity>`: its data file and its manifest. Whoever finds all of them there
publishes the whole to the main branch, in one commit that copies the data files on the server, reads it back, and removes the
branch. So a branch that is there says that something is still to be done. Of two that come last at once, the Hub takes the
commit of one, as both build on the same head, and the other finds it published.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from job import manifest, publication, results
from job.disk import json_text
from job.files import parsed_json
from job.layout import MANIFEST
from job.plan import Plan
from job.protocols import Hub
from job.records import Copies, Part, Snapshot
from job.references import SHA256_LENGTH
from job.shards import Shard

log = structlog.get_logger()

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Whole:
    """All shards' results, and where in the repository their files are. facts: the manifest."""

    facts: Facts
    copies: Copies


@dataclass(frozen=True, slots=True)
class Meeting:
    """What is on the branch.

    own: this shard's manifest, None where its part is not there; missing: the shards whose part is not; whole: None unless all
    are.
    """

    own: Facts | None
    missing: Sequence[int]
    whole: Whole | None


def branch_of(plan: Plan) -> str:
    return f"run-{plan.identity.short}"


def look(plan: Plan, repo_id: str, hub: Hub) -> Meeting | None:
    """What is on the branch, None without one. An own part with too many failed rows does not count: they are tried again."""
    meeting = hub.look(repo_id, partial(_seen, plan), branch_of(plan))
    if meeting is None or meeting.own is None or _is_good(plan, meeting.own, meeting.whole):
        return meeting
    return Meeting(None, [*meeting.missing, plan.shard.index], None)


def _is_good(plan: Plan, own: Facts, whole: Whole | None) -> bool:
    failed = results.tally_of(own).failed_rows
    total = results.tally_of(whole.facts).failed_rows if whole else failed
    return failed == 0 or total <= plan.settings.output.max_failed_rows


def contribute(plan: Plan, repo_id: str, facts: Facts, hub: Hub) -> Meeting:
    """Put this shard's part there, and look what there is then. facts: its manifest."""
    data, about = _paths(plan, plan.shard)
    (file,) = results.files_of(facts)
    part = Part(
        data_path=data,
        data=plan.part_folder / file.path,
        sha256=file.sha256,
        manifest_path=about,
        manifest=json_text(facts),
        title=f"Shard {plan.shard} of run {plan.identity.short}",
    )
    meeting = hub.contribute(repo_id, branch_of(plan), part, partial(_seen, plan))
    log.info("shard_contributed", repo_id=repo_id, branch=branch_of(plan), missing=meeting.missing)
    return meeting


def published(plan: Plan, repo_id: str, hub: Hub) -> Whole | None:
    """The whole run on the main branch, whoever published it and of however many shards; None where it is not there."""
    return hub.look(repo_id, partial(_published, plan))


def _paths(plan: Plan, shard: Shard) -> tuple[str, str]:
    """Where a shard's data and manifest are on the branch: in a folder of its own, as on disk."""
    return f"{shard.folder}/{publication.data_path_of(plan, shard)}", f"{shard.folder}/{MANIFEST}"


def _seen(plan: Plan, there: Snapshot) -> Meeting:
    """What a head of the branch has. The others' manifests are read only where all of them are there."""
    absent = [shard.index for shard in plan.shard.all() if not set(_paths(plan, shard)) <= there.digests.keys()]
    if absent:
        return Meeting(_part(plan, plan.shard, there), absent, None)
    parts = [_part(plan, shard, there) for shard in plan.shard.all()]
    missing = [index for index, part in enumerate(parts) if part is None]
    whole = None if missing else _whole(plan, there, [part for part in parts if part is not None])
    return Meeting(parts[plan.shard.index], missing, whole)


def _part(plan: Plan, shard: Shard, there: Snapshot) -> Facts | None:
    """A shard's manifest, None where its part is not there, is another run's, or of another number of rows."""
    data, about = _paths(plan, shard)
    facts = _read(there, about)
    if facts is None or not _is_of(plan, facts):
        return None
    file = results.file_of(facts, publication.data_path_of(plan, shard), len(shard.positions(plan.total_rows)))
    return facts if file and _is_there(there, data, file.sha256) else None


def _whole(plan: Plan, there: Snapshot, parts: Sequence[Facts]) -> Whole:
    facts = manifest.joined(parts)
    files = [file.path for file in results.files_of(facts)]
    sources = dict(zip(files, (_paths(plan, shard)[0] for shard in plan.shard.all()), strict=True))
    return Whole(facts, Copies(there.commit, sources, {path: there.digests[source] for path, source in sources.items()}))


def _published(plan: Plan, there: Snapshot) -> Whole | None:
    try:
        _, facts = publication.manifest_there(there, *publication.place(plan))
        if facts is None or not _is_of(plan, facts):
            return None
        files, tally = results.files_of(facts), results.tally_of(facts)
    except (ValueError, KeyError, TypeError):
        return None
    paths = [publication.data_path_of(plan, Shard(index, len(files))) for index in range(len(files))]
    complete = [file.path for file in files] == paths == publication.data_paths(plan, there)
    counted = tally.rows == plan.total_rows == sum(file.rows for file in files)
    if not (complete and counted and all(_is_there(there, file.path, file.sha256) for file in files)):
        return None
    if tally.failed_rows > plan.settings.output.max_failed_rows:
        return None
    digests = {file.path: there.digests[file.path] for file in files}
    return Whole(facts, Copies(there.commit, {path: path for path in digests}, digests))


def _is_of(plan: Plan, facts: Facts) -> bool:
    return manifest.is_of(facts, plan.identity, plan.model, plan.adapter, plan.data)


def _is_there(there: Snapshot, path: str, sha256: str) -> bool:
    """As far as the Hub's digest tells: git's, of a file that is kept out of LFS, is looked at when it is read back."""
    digest = there.digests.get(path)
    return digest is not None and (digest == sha256 or len(digest) != SHA256_LENGTH)


def _read(there: Snapshot, path: str) -> Facts | None:
    try:
        facts = parsed_json(there.read(path) or "null")
    except ValueError:
        return None
    return facts if isinstance(facts, dict) else None
