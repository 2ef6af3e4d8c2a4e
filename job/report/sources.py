"""Edge: what RESULTS names -> results folders on this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from job.errors import DatasetError, OutputError, Problem, SettingsError
from job.files import read_json
from job.layout import IDENTITY, LATEST, MANIFEST
from job.records import Kind, Source
from job.references import is_local
from job.report.runs import Manifest, parsed

VARIABLE = "RESULTS"

T = TypeVar("T")


class Hub(Protocol):
    """What the report needs of the Hub, see job.hub."""

    @property
    def api(self) -> Any:
        """Of huggingface_hub."""

    def resolve(self, kind: Kind, repo_id: str, revision: str) -> Source: ...

    def read(self, attempt: Callable[[], T], doing: str) -> T: ...


def folder_of(reference: str, connect: Callable[[], Hub]) -> Path:
    """The results folder that a reference means: a folder, a model's folder with `latest` in it, or `namespace/name@revision`.

    connect: called only where the Hub is asked.
    Raises: SettingsError where there is none; AccessError and HubUnavailableError as the Hub's client does.
    """
    path = Path(reference).expanduser()
    if path.is_dir():
        return _in_folder(path)
    repo_id, _, revision = reference.partition("@")
    if is_local(repo_id) or repo_id.count("/") != 1:
        raise _problem(reference, "no such folder: give a folder with a run.json, or namespace/name[@revision] of the Hub")
    return _from_hub(connect(), repo_id, revision or "main")


def manifest_of(folder: Path) -> Manifest:
    """Raises: SettingsError where the folder holds no results, DatasetError where its run is not finished, OutputError where
    run.json is damaged."""
    path = folder / MANIFEST
    if not path.is_file():
        if (folder / IDENTITY).exists():
            raise DatasetError(
                f"{folder}: the run is not finished: it has no {MANIFEST}. Run its command again, which goes on, and then this."
            )
        raise _problem(str(folder), f"the folder has no {MANIFEST}: name one that a run wrote, OUTPUT_DIR/<model>/latest say")
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot be read: {error}. Run the same job again, which writes it anew.") from error
    return parsed(str(path), values)


def _in_folder(path: Path) -> Path:
    latest = path / LATEST
    return (latest if latest.is_dir() and not (path / MANIFEST).exists() else path).resolve()


def _from_hub(hub: Hub, repo_id: str, revision: str) -> Path:
    try:
        commit = hub.resolve("dataset", repo_id, revision).commit
    except SettingsError as error:  # which names a variable that this command does not read
        raise _problem(f"{repo_id}@{revision}", error.problems[0].message) from error

    def fetched(*paths: str) -> Path:
        def fetch() -> str:
            return str(hub.api.snapshot_download(repo_id, repo_type="dataset", revision=commit, allow_patterns=list(paths)))

        return Path(hub.read(fetch, f"{VARIABLE}={repo_id}"))

    folder = fetched(MANIFEST)
    if not (folder / MANIFEST).is_file():
        raise _problem(f"{repo_id}@{revision}", f"the repository has no {MANIFEST}: it holds no results of this job")
    return fetched(MANIFEST, *(file.path for file in manifest_of(folder).files))  # it may have other splits too


def _problem(value: str, message: str) -> SettingsError:
    return SettingsError([Problem(VARIABLE, value, message)])
