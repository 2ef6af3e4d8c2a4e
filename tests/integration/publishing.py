"""What the tests of publication share: the job against a test Hub, and what has to be there afterwards."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi, HfFileSystem, close_session, constants, set_client_factory
from huggingface_hub.utils import _http as library
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars  # type: ignore[attr-defined]

from job import pipeline
from job.effects import Effects
from job.hub import Hub
from job.hub.client import Limits, limit_requests
from job.hub.retry import Patience
from job.protocols import Stop
from job.records import RunSummary
from job.settings import HubSettings, Settings
from job.shutdown import StopSignal
from tests.hub_server import Commit, HubServer, Repository
from tests.support import ECHO, Outcome, run_job, write_jsonl

TOKEN = "hf_anas"  # too short for the pattern of tokens: only as the secret of the run can it be kept out of the logs
REPO = "ana/echo-model-results"
READER = "hf_reader"
ROWS = 20
COMMIT = r"/api/datasets/[^?]*/commit/main"
PREUPLOAD = r"/preupload/"
INFO = r"/api/datasets/[^/]+/[^/]+-results\?blobs"
PREFLIGHT = 6
"""Requests of a first run before publication begins: who am I, is it there (three times), make it, is it there now."""
LOAD_FROM = "path/of/this/folder"
IMAGE = "images/default/test-lengths.png"

Row = dict[str, Any]


class Scene:
    """A dataset of a few rows, a Hub, and the job that publishes to it."""

    def __init__(self, hub: HubServer, folder: Path) -> None:
        self.hub = hub
        self.folder = folder
        self.output = folder / "results"
        self.data = write_jsonl(folder / "rows.jsonl", rows_of("rows"))
        self.variables: dict[str, object] = {
            **ECHO,
            **hub.environment(TOKEN),
            "DATASET_ID": self.data,
            "OUTPUT_DIR": self.output,
            "HUB_NAMESPACE": "ana",
            "LOG_LEVEL": "DEBUG",
        }

    def run(self, **more: object) -> Outcome:
        """The real job. No token is in anything that it leaves behind."""
        variables = self.variables | more
        outcome = run_job(**variables)
        self.check_secret(outcome, str(variables["HF_TOKEN"]))
        return outcome

    def check_secret(self, outcome: Outcome, token: str = TOKEN) -> None:
        assert token not in json.dumps(outcome.events) + outcome.stderr
        for file in (path for place in (self.output, Path(str(self.variables["HF_HOME"]))) for path in place.rglob("*")):
            assert not file.is_file() or token.encode() not in file.read_bytes(), file

    def repo(self, repo_id: str = REPO) -> Repository:
        return self.hub.repo("dataset", repo_id)

    def commits(self, repo_id: str = REPO) -> list[Commit]:
        """Those of the job, newest first; none where there is no repository."""
        try:
            history = self.repo(repo_id).history()
        except KeyError:
            return []
        return [commit for commit in history if commit.title.startswith("Answers of run ")]

    def rows(self, repo_id: str = REPO, config: str | None = None, split: str = "test") -> list[Row]:
        """What anyone gets who loads it."""
        with client(self.hub, self.folder) as cache:
            loaded = datasets.load_dataset(repo_id, config, split=split, token=READER, cache_dir=str(cache))
            return list(loaded)

    def check_published(self, outcome: Outcome, *, generated: int = ROWS, repo_id: str = REPO) -> None:
        """The run ended well with one commit of the job in the repository, which holds what is on disk, and loads."""
        assert (outcome.code, outcome.last.get("generated_rows")) == (0, generated), outcome.last
        assert len(self.commits(repo_id)) == 1
        assert outcome.last["commit"] == self.commits(repo_id)[0].oid
        self.check_content(outcome, repo_id=repo_id)
        folder, files = Path(str(outcome.last["results"])), self.repo(repo_id).files()
        assert files["README.md"].decode() == (folder / "README.md").read_text().replace(LOAD_FROM, repo_id)

    def check_content(
        self,
        outcome: Outcome,
        *,
        repo_id: str = REPO,
        config: str | None = None,
        split: str = "test",
        manifest: str = "run.json",
    ) -> None:
        """What a run left on disk is in the repository byte for byte, and a reader gets its rows."""
        folder, files = Path(str(outcome.last["results"])), self.repo(repo_id).files()
        path = f"{config or 'data'}/{split}-00000-of-00001.parquet"
        assert files[path] == (folder / path).read_bytes()
        assert files[manifest] == (folder / "run.json").read_bytes()
        assert self.rows(repo_id, config, split) == pq.read_table(folder / path).to_pylist()

    def check_held_back(self, outcome: Outcome, code: int, *, uploads: bool = False) -> None:
        """The run ended with this code after it had answered: nothing is published, and everything is safe."""
        assert outcome.code == outcome.last["exit_code"] == code, outcome.last
        assert "the same command publishes them without answering again" in str(outcome.last["message"])
        assert outcome.of("results_written")
        assert not outcome.of("published")
        assert self.commits() == []
        assert bool(self.hub.seen("PUT", "/uploads/")) == uploads


def rows_of(word: str, rows: int = ROWS) -> list[Mapping[str, object]]:
    return [{"instruction": f"Count {word} to {number}.", "id": number} for number in range(rows)]


def retries(outcome: Outcome) -> list[int | None]:
    """The statuses that publication was tried again for; None where there was no answer."""
    return [event["status"] for event in outcome.of("upload_retry")]


@contextmanager
def client(hub: HubServer, folder: Path) -> Iterator[Path]:
    """The libraries of this process as clients of a test Hub, with a cache of their own. They read its address on import."""
    cache = folder / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", cache / "datasets")
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("HF_TOKEN", TOKEN)
        HfFileSystem.clear_instance_cache()
        close_session()
        disable_progress_bars()
        datasets.disable_progress_bars()
        try:
            yield cache
        finally:
            set_client_factory(library.default_client_factory)
            datasets.enable_progress_bars()
            enable_progress_bars()
            HfFileSystem.clear_instance_cache()


class _Unhurried:
    """The time module as huggingface_hub sees it: its waits are over at once."""

    def __init__(self, waits: list[float]) -> None:
        self.sleep = waits.append

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def run_here(scene: Scene, waits: list[float], *, request_seconds: float = 60, **more: object) -> RunSummary:
    """The whole pipeline in this process, with real clients and no real waits: what they would be goes to `waits`."""

    def connect(settings: HubSettings, stop: Stop) -> Hub:
        limits = Limits(stop)
        limit_requests(limits, request_seconds)
        return Hub(HfApi(scene.hub.url, token=TOKEN), settings, Patience(limits, stop, waits.append))

    settings = Settings.from_env({name: str(value) for name, value in (scene.variables | more).items()})
    effects = Effects(StopSignal(20), connect=connect, bind_log=lambda **_: None)
    with client(scene.hub, scene.folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "time", _Unhurried(waits))
        return pipeline.run(settings, effects)
