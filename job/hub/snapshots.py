"""The files of a model or adapter on the Hub, in the Hub's cache on this machine: small ones first, the weights when needed.

The engine gets a folder and never talks to the Hub itself. So each fault of a download is dealt with here, in one way, and a
model that is in the cache at a full commit needs no request at all.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog

from job.errors import JobError, OutputError, Problem, SettingsError
from job.hub.cache import cache_errors, check_content
from job.hub.retry import Patience, causes
from job.hub_refusals import gated, missing
from job.local_files import CONFIGS, NO_WEIGHTS, VARIABLES, has_safe_weights
from job.records import Kind, Source
from job.threads import thread_pool

# Weights in forms that the engine does not read unless it is told to.
OTHER_WEIGHTS = (
    "*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.h5", "*.msgpack", "*.onnx", "*.onnx_data", "*.ot", "*.tflite", "*.mlmodel",
    "original/*", "consolidated*", "onnx/*", "openvino/*", "coreml/*", "*.pickle", "*.pkl",
)  # fmt: skip
WEIGHTS = "*.safetensors"
_SMALL_SECONDS = 120.0
_WEIGHTS_SECONDS = 24 * 3600.0  # a limit against hanging for ever; each request has a much shorter one
_WEIGHTS_WAIT_SECONDS = 300.0  # a Hub that fails all the time is not waited for with a GPU idle
_ROOM_FACTOR = 1.02

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Listed:
    """One file of the repository. `path` is where it is in the cache, or will be."""

    name: str
    path: Path
    size: int
    missing: bool


class HubFiles:
    """Files of one repository at one commit."""

    def __init__(self, api: Any, patience: Patience, kind: Kind, source: Source, *, any_format: bool) -> None:
        """any_format: whether weights of any form are wanted, rather than safetensors only."""
        self.source = source
        self._api = api
        self._patience = patience
        self._kind: Kind = kind
        self._ignored = () if any_format else OTHER_WEIGHTS
        self._any_format = any_format
        self._unchecked: dict[str, Path] = {}

    def check(self) -> None:
        """Look what is there and what is still to be fetched: no request where everything is in the cache."""
        files = self._patiently(self._listed, _SMALL_SECONDS)
        names = [file.name for file in files]
        if CONFIGS[self._kind] not in names:
            raise self._problem(f"has no {CONFIGS[self._kind]} at {self.source.commit}, which every {self._kind} has")
        if not self._any_format and not has_safe_weights(self._kind, names):
            raise self._problem(f"has {NO_WEIGHTS[self._kind]}")
        needed = sum(file.size for file in files if file.missing)
        self._check_room(needed)
        log.info("files_checked", repo_id=self.source.name, files=len(files), bytes_to_download=needed)

    def small_files(self) -> Path:
        return self._patiently(lambda: self._fetch(WEIGHTS, *OTHER_WEIGHTS), _SMALL_SECONDS)

    def all_files(self) -> Path:
        return self._patiently(self._fetch, _WEIGHTS_SECONDS, _WEIGHTS_WAIT_SECONDS)

    def _fetch(self, *more_ignored: str) -> Path:
        wanted = [file for file in self._listed(*more_ignored) if file.missing]
        self._unchecked |= {file.name: file.path for file in wanted}
        folder = Path(self._snapshot(more_ignored))
        self._check_contents()
        if wanted:
            log.info("files_fetched", repo_id=self.source.name, files=len(wanted), bytes=sum(file.size for file in wanted))
        return folder

    def _check_contents(self) -> None:
        """Check all that came, in this attempt or in a failed one before: the next one would find it in the cache and use it.

        All of them, also where one is damaged: this may be the last attempt, and no damaged file is left for the next process.

        Raises: MismatchError for one of those that are damaged.
        """
        with thread_pool() as pool:
            checks = {name: pool.submit(check_content, name, path) for name, path in self._unchecked.items()}
            errors = {name: check.exception() for name, check in checks.items()}
        self._unchecked = {name: path for name, path in self._unchecked.items() if errors[name] is not None}
        for error in errors.values():
            if error is not None:
                raise error

    def _listed(self, *more_ignored: str) -> Sequence[_Listed]:
        from huggingface_hub import constants

        if constants.HF_HUB_OFFLINE:  # then what is in the cache is all there is
            folder = Path(self._snapshot(more_ignored, local_files_only=True))
            found = (path for path in folder.rglob("*") if path.is_file())
            return [_Listed(path.relative_to(folder).as_posix(), path, path.stat().st_size, missing=False) for path in found]
        files = self._snapshot(more_ignored, dry_run=True)
        return [_Listed(file.filename, Path(file.local_path), file.file_size or 0, file.will_download) for file in files]

    def _snapshot(self, more_ignored: Sequence[str], **options: Any) -> Any:
        ignored = [*self._ignored, *more_ignored]
        return self._api.snapshot_download(self.source.name, revision=self.source.commit, ignore_patterns=ignored, **options)

    def _patiently(self, attempt: Callable[[], T], seconds: float, wait_seconds: float = float("inf")) -> T:
        def named() -> T:
            try:
                with cache_errors():
                    return attempt()
            except OSError as error:
                refusal = self._refusal(error)
                if refusal is None:
                    raise
                raise refusal from error

        doing = f"{VARIABLES[self._kind]}={self.source.name}"
        return self._patience(named, doing, seconds, wait_seconds=wait_seconds)

    def _refusal(self, error: OSError) -> JobError | None:
        """What the Hub said no to, None where it did not. A listing that fails is a DryRunError with the reason under it."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

        for cause in causes(error):
            if isinstance(cause, GatedRepoError):
                return gated(self._kind, self.source.name)
            if isinstance(cause, RevisionNotFoundError):
                return self._problem(f"has no commit {self.source.commit}")
            if isinstance(cause, RepositoryNotFoundError):
                return missing(self._kind, self.source.name)
        return None

    def _check_room(self, needed: int) -> None:
        from huggingface_hub import constants

        cache = Path(constants.HF_HUB_CACHE)
        if not needed:
            return
        with cache_errors():
            cache.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(cache).free
        if needed * _ROOM_FACTOR > free:
            raise OutputError(
                f"{cache}: {needed / 1e9:.1f} GB of {self.source.name} are to be downloaded, and {free / 1e9:.1f} GB are free. "
                f"Make room, or set HF_HOME to a folder with more."
            )

    def _problem(self, message: str) -> SettingsError:
        return SettingsError([Problem(VARIABLES[self._kind], self.source.name, message)])
