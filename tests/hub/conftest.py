"""The job's side of the Hub in this process: real clients against the test server, on a clock that only waiting moves."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
from huggingface_hub import constants, file_download
from huggingface_hub.utils import _http
from structlog.typing import EventDict

from job import hub as job_hub
from job.hub import Hub
from job.settings import HubSettings
from tests.hub_clients import TOKEN, _client, _session, hub, plain, secure
from tests.hub_server import HubServer

__all__ = ["_client", "_session", "hub", "plain", "secure"]

TEMPLATE = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)

Connect = Callable[..., Hub]


class FakeTime:
    """A clock that stands still but for the waiting that is done by it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.on_sleep: Callable[[], object] = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep()


class FakeStop:
    """A stop that a test asks for."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self.grace_is_over = False


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def library_waits(monkeypatch: pytest.MonkeyPatch, time: FakeTime) -> list[float]:
    """The library's own waits between its retries, which take the fake time too."""
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        time.sleep(seconds)

    for module in (_http, file_download):
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=sleep))
    return waits


@pytest.fixture
def stop() -> FakeStop:
    return FakeStop()


@pytest.fixture
def events() -> Iterator[list[EventDict]]:
    """What the job logs."""
    with structlog.testing.capture_logs() as logged:
        yield logged


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, time: FakeTime, stop: FakeStop, library_waits: list[float]) -> Connect:
    """Makes the job's Hub for a server, or for the address of none, and a token."""

    def connected(server: HubServer | str, token: str | None = TOKEN, **variables: object) -> Hub:
        import datasets

        url = server if isinstance(server, str) else server.url
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + TEMPLATE)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", url)
        environ = {name: str(value) for name, value in variables.items()} | ({"HF_TOKEN": token} if token else {})
        return job_hub.connect(HubSettings.from_env(environ), stop, time.sleep, time)

    return connected


@pytest.fixture
def cache() -> Path:
    """The Hub's cache of this test."""
    return Path(constants.HF_HUB_CACHE)
