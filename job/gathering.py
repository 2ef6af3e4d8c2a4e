"""The results of all shards, put together as those of one run: by whichever shard comes last, or finds that nobody did.

Each shard leaves its parquet file and its manifest in a folder of its own. Once all are there, the files get their places in
the run's folder, with one card and one manifest. Several shards may find that at the same moment: one lock lets them do it in
turn, and who comes second finds it done.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from job import manifest, publication, results
from job.disk import check_no_links, disk_errors, make_folder, move_whole, open_new, remove_whole, write_whole
from job.errors import RunLockedError, StoppedError
from job.files import open_file, read_json
from job.layout import CARD, IDENTITY, MANIFEST
from job.plan import Plan
from job.protocols import Stop
from job.references import sha256_of
from job.run_lock import RunLock
from job.shards import Shard

SET = "set"  # the folder whose lock is held meanwhile
_AGAIN_SECONDS = 0.5

log = structlog.get_logger()


@contextmanager
def alone(plan: Plan, lock: Callable[[Path], RunLock], stop: Stop, sleep: Callable[[float], None]) -> Iterator[None]:
    """Hold the lock of the set, waiting for another shard that does.

    Raises: StoppedError where a signal comes first.
    """
    folder = plan.folder / SET
    with disk_errors(folder):
        check_no_links(plan.top, [folder])
        make_folder(folder)
        held = _taken(lock, folder, stop, sleep)
    try:
        yield
    finally:
        held.release()


def _taken(lock: Callable[[Path], RunLock], folder: Path, stop: Stop, sleep: Callable[[float], None]) -> RunLock:
    while True:
        held = lock(folder)
        try:
            held.take()
        except RunLockedError as error:
            if stop.signal:
                raise StoppedError(f"stopped by {stop.signal} while waiting: {error}") from error
            sleep(_AGAIN_SECONDS)
        else:
            return held


def _missing(plan: Plan) -> list[int]:
    """The shards that have not left their results yet."""
    return [shard.index for shard in plan.shard.all() if not (plan.folder / shard.folder / MANIFEST).is_file()]


def gather(plan: Plan) -> tuple[Mapping[str, Any] | None, list[int]]:
    """Put the results of all shards together.

    Returns: the manifest of the whole, None where shards are missing, damaged or of another number of rows; and which they are.
    """
    if absent := _missing(plan):  # said without reading what the others left
        return None, absent
    parts = [_part(plan, shard) for shard in plan.shard.all()]
    if absent := [index for index, part in enumerate(parts) if part is None]:
        return None, absent
    facts = manifest.joined([part for part in parts if part is not None])
    with disk_errors(plan.folder):
        _write(plan, facts)
    return facts, []


def _part(plan: Plan, shard: Shard) -> Mapping[str, Any] | None:
    path, rows = publication.data_path_of(plan, shard), len(shard.positions(plan.total_rows))
    found = results.read_finished(plan.folder / shard.folder, path, rows, beside=())
    return found if found and manifest.is_of(found, plan.identity, plan.model, plan.adapter, plan.data) else None


def _write(plan: Plan, facts: Mapping[str, Any]) -> None:
    """The run's folder, unless it is as it should be."""
    folder, files = plan.folder, results.files_of(facts)
    sources = {file.path: folder / shard.folder / file.path for file, shard in zip(files, plan.shard.all(), strict=True)}
    if _is_there(folder, facts, sources):
        return
    data = (folder / files[0].path).parent
    check_no_links(plan.top, [data])
    remove_whole(folder / MANIFEST)
    make_folder(data)
    for path, source in sources.items():
        _place(source, folder / path)
    publication.remove_stale(plan, sources)
    write_whole(folder / IDENTITY, plan.identity.as_json())
    publication.write_described(plan, facts)
    log.info("results_written", folder=str(folder), rows=results.tally_of(facts).rows)


def _is_there(folder: Path, facts: Mapping[str, Any], sources: Mapping[str, Path]) -> bool:
    try:
        same = read_json(folder / MANIFEST) == facts
    except (OSError, ValueError):
        return False
    return same and (folder / CARD).is_file() and all(_is_placed(source, folder / path) for path, source in sources.items())


def _is_placed(source: Path, target: Path) -> bool:
    """Whether the file is there already: the same one, or its copy."""
    if target.is_symlink() or not target.is_file():
        return False
    return target.samefile(source) or sha256_of(target) == sha256_of(source)


def _place(source: Path, target: Path) -> None:
    """The same file at another place; a copy, where the file system knows no hard links."""
    if not target.is_symlink() and target.is_file() and target.samefile(source):
        return  # to move one name of a file over another one of it would leave both
    half_made = target.with_suffix(".tmp")
    half_made.unlink(missing_ok=True)
    try:
        os.link(source, half_made)
    except OSError:
        with open_file(source) as content, open_new(half_made) as copy:
            shutil.copyfileobj(content, copy)
    move_whole(half_made, target)
