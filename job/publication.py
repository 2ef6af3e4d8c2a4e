"""What is published of a finished run, and where: puts card, manifest and data together for the Hub."""

import shutil
import tempfile
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from job import card, dataset, manifest, metadata, plot, results
from job.disk import check_no_links, disk_errors, json_text, make_folder, write_whole
from job.errors import (
    AccessError,
    FailedRowsError,
    HubUnavailableError,
    JobError,
    OutputError,
    Problem,
    SettingsError,
    StoppedError,
)
from job.files import open_file, parsed_json, read_json
from job.layout import CARD, MANIFEST, PUBLISHED, config_of, data_path, image_path, is_data_of, manifest_paths
from job.lengths import of_answers
from job.plan import Plan
from job.protocols import Hub
from job.records import Copies, Published, Release, Snapshot, Tally
from job.shards import Shard

_READING = ".reading-"
_LOAD_FROM = "path/of/this/folder"

log = structlog.get_logger()


def check(plan: Plan, hub: Hub) -> None:
    """What would stand in the way of publication, and what it would replace: said before anything is answered.

    Raises: SettingsError where the results do not go with what the repository has.
    """
    repo_id = plan.repo_id
    if repo_id is None:
        return
    config, split = place(plan)
    nothing_yet = dataset.dataset_info(result_schema(plan), split, [])

    def see(there: Snapshot) -> Mapping[str, Any] | None:
        with _card_errors(repo_id):
            metadata.merged(there.read(CARD) or "", config, split, nothing_yet, list(there.digests))
            return manifest_there(there, config, split)[1]

    if facts := hub.look(repo_id, see):
        _check_replaced(plan, repo_id, facts)


def manifest_there(there: Snapshot, config: str, split: str) -> tuple[str, Mapping[str, Any] | None]:
    """Where in a repository a split's manifest is, or is to be, and what it says; None where there is none.

    Raises: ValueError where it is no text.
    """
    first, second = manifest_paths(config, split)
    text = there.read(first)
    if text and manifest.describes(text, config, split):
        return first, parsed_json(text)
    other = there.read(second)
    found = parsed_json(other) if other and manifest.describes(other, config, split) else None
    return (first if text is None else second), found


def _check_replaced(plan: Plan, repo_id: str, there: Mapping[str, Any]) -> None:
    """Other results of the same split are replaced: git keeps them, but readers of the repository get the new ones."""
    facts, ours = there["identity"]["facts"], plan.identity.facts
    differing = sorted(name for name in {*ours, *facts} if facts.get(name) != ours.get(name))
    counts, engine = there.get("counts"), facts.get("engine")
    rows = counts.get("rows") if isinstance(counts, dict) else None
    rows = rows if isinstance(rows, int) else 0
    if not differing and rows <= plan.total_rows:
        return
    log.warning("replaces_published", repo_id=repo_id, run=there["identity"]["digest"][:12], rows=rows, differing=differing)
    if plan.settings.engine.engine == "echo" and not (isinstance(engine, dict) and engine.get("name") == "echo"):
        message = f"would replace the answers of a model in {repo_id} by echoes: name another repository with HUB_REPO_ID"
        raise SettingsError([Problem("ENGINE", "echo", message)])


def check_failed_rows(plan: Plan, tally: Tally) -> None:
    """Raises: FailedRowsError where more rows failed than may."""
    allowed = plan.settings.output.max_failed_rows
    if tally.failed_rows > allowed:
        raise FailedRowsError(
            f"{tally.failed_rows} of {tally.rows} rows have no answer, and MAX_FAILED_ROWS={allowed}. "
            f"The others are safe in {plan.folder}; the same command tries only the failed ones again."
        )


def place(plan: Plan) -> tuple[str, str]:
    """Configuration and split, by which a repository keeps its results apart."""
    return config_of(plan.settings.data.dataset_config), plan.settings.data.dataset_split


def data_path_of(plan: Plan, shard: Shard) -> str:
    """The path of a shard's data in its folder, and of that in the repository."""
    config, split = place(plan)
    return data_path(config, split, shard)


def data_paths(plan: Plan, there: Snapshot) -> list[str]:
    """The data files of the split that a repository has, in the order of their names."""
    return sorted(path for path in there.digests if is_data_of(path, *place(plan)))


def remove_stale(plan: Plan, paths: Container[str]) -> None:
    """Remove the data that another number of shards left in the run's folder: a reader would get its rows too.

    paths: of the data that belongs there.
    """
    config, split = place(plan)
    folder = (plan.folder / data_path_of(plan, plan.shard)).parent
    for file in folder.glob("*.parquet"):
        path = file.relative_to(plan.folder).as_posix()
        if is_data_of(path, config, split) and path not in paths:
            file.unlink()


@contextmanager
def _card_errors(repo_id: str) -> Iterator[None]:
    """A card or manifest that the results do not go with."""
    try:
        yield
    except ValueError as error:
        message = f"{error}. Change that there, or name another repository with HUB_REPO_ID"
        raise SettingsError([Problem("HUB_REPO_ID", repo_id, message)]) from error


def publish(plan: Plan, facts: Mapping[str, Any], hub: Hub, copies: Copies | None = None) -> Published | None:
    """Publish the results of a finished run, where they are to be published and are not yet.

    facts: the run's manifest; copies: where the data files come from, None where they are in the run's folder.
    Raises: a JobError; its message says that the results are safe, and what to do.
    """
    if plan.repo_id is None:
        return None
    config, split = place(plan)
    own = plan.folder if copies is None else plan.part_folder  # the run's folder may be that of other shards as well
    images = _drawn(own, plan) or _images(plan, facts)
    release = Release(
        folder=own,
        files=results.files_of(facts),
        images=images,
        texts=_texts(plan, facts, plan.repo_id, next(iter(images), None)),
        is_stale=lambda path: is_data_of(path, config, split) or path == image_path(config, split),
        run_id=plan.identity.short,
        copies=copies,
    )
    earlier = _earlier(own, plan.repo_id)
    with said_safe(own), _reading_folder(own) as folder:
        published = hub.publish(plan.repo_id, release, _rows_of(plan, folder), earlier)
    with disk_errors(own):
        record = {"repo_id": published.repo_id, "commit": published.commit}
        write_whole(own / PUBLISHED, json_text(record))
    log.info("published", repo_id=published.repo_id, commit=published.commit, new=published.commit != earlier)
    return published


@contextmanager
def _reading_folder(results_folder: Path) -> Iterator[Path]:
    """A folder for what is read back, gone afterwards; those that a killed process left go too, as the run is ours alone."""
    for left in results_folder.glob(f"{_READING}*"):
        shutil.rmtree(left, ignore_errors=True)
    with disk_errors(results_folder):
        folder = Path(tempfile.mkdtemp(dir=results_folder, prefix=_READING))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_described(plan: Plan, facts: Mapping[str, Any]) -> None:
    """Write the card with its plot and the manifest into the run's folder, whose data is there: the manifest last, as the sign
    that it is whole."""
    info, images = described(plan, facts), _images(plan, facts)
    target = plan.folder / image_path(*place(plan))
    check_no_links(plan.top, [target.parent])
    target.unlink(missing_ok=True)  # of other answers, where there is none now
    for path, content in images.items():
        make_folder((plan.folder / path).parent)
        write_whole(plan.folder / path, content)
    readme = card.render(facts, info, _LOAD_FROM, manifest_path=MANIFEST, image=next(iter(images), None))
    write_whole(plan.folder / CARD, readme)
    write_whole(plan.folder / MANIFEST, json_text(facts))


def _images(plan: Plan, facts: Mapping[str, Any]) -> Mapping[str, bytes]:
    """The card's plot by its path. None of it is worth a finished run: where it cannot be drawn, the card goes without."""
    if not of_answers(facts["counts"]).answers:
        return {}
    try:
        return {image_path(*place(plan)): plot.lengths_png(facts["counts"])}
    except Exception as error:  # noqa: BLE001 (see above)
        log.warning("plot_failed", error=f"{type(error).__name__}: {error}")
        return {}


def _drawn(folder: Path, plan: Plan) -> Mapping[str, bytes]:
    """The plot that `write_described` left with the results in a folder, which takes a second to draw; nothing without one."""
    path = image_path(*place(plan))
    if (folder / path).is_symlink():
        return {}
    try:
        with open_file(folder / path) as file:
            return {path: file.read()}
    except OSError:
        return {}


def described(plan: Plan, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The `dataset_info` of a run's results, for its card."""
    split = plan.settings.data.dataset_split
    return dataset.dataset_info(result_schema(plan), split, results.files_of(facts))


def result_schema(plan: Plan) -> Any:
    """The columns of the results: those of the source that are kept, then those that the job adds."""
    added = results.result_columns(plan.settings.sampling.num_samples)
    return dataset.extended(plan.rows.schema, kept_columns(plan), added)


def kept_columns(plan: Plan) -> list[str]:
    return [name for name in plan.rows.schema.names if name not in plan.settings.data.drop_columns]


def _texts(plan: Plan, facts: Mapping[str, Any], repo_id: str, image: str | None) -> Callable[[Snapshot], Mapping[str, str]]:
    """Manifest and card, given what is there. Of a run that is there already, the same data, both stay as they are."""
    config, split = place(plan)
    info = described(plan, facts)

    def texts(there: Snapshot) -> Mapping[str, str]:
        with _card_errors(repo_id):
            path, published = manifest_there(there, config, split)
            ours = published if published and manifest.is_same_release(published, facts) else facts
            existing, paths = there.read(CARD), list(there.digests)
            readme = card.render(ours, info, repo_id, manifest_path=path, image=image, existing=existing, paths=paths)
        return {path: json_text(ours), CARD: readme}

    return texts


def _rows_of(plan: Plan, folder: Path) -> Callable[[str], int]:
    data, token, repo_id = plan.settings.data, plan.settings.hub.token, plan.repo_id or ""
    return lambda commit: dataset.count_rows(repo_id, commit, config_of(data.dataset_config), data.dataset_split, token, folder)


def _earlier(folder: Path, repo_id: str) -> str | None:
    """The commit that an earlier run of this command published there and read back, None where there is none."""
    try:
        record = read_json(folder / PUBLISHED)
        commit: str | None = record["commit"] if record["repo_id"] == repo_id else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return commit


@contextmanager
def said_safe(folder: Path) -> Iterator[None]:
    """Errors of the Hub, with what is safe and what to do about it."""
    try:
        yield
    except (AccessError, HubUnavailableError, OutputError, SettingsError, StoppedError) as error:
        raise _with_remedy(error, folder) from error


def _with_remedy(error: JobError, folder: Path) -> JobError:
    """The same error, with what is safe and what to do about it."""
    remedy = f"All answers are safe in {folder}; once that is mended, the same command publishes them without answering again."
    if isinstance(error, SettingsError):
        return SettingsError([Problem(each.variable, each.value, f"{each.message}. {remedy}") for each in error.problems])
    return type(error)(f"{error} {remedy}")
