"""A Hub, and the job that publishes to it."""

import functools
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from job import plot
from tests.hub_server import HubServer
from tests.integration.publishing import READER, TOKEN, Scene


@functools.cache
def _drawn(counts: str, draw: Callable[[Mapping[str, Any]], bytes] = plot.lengths_png) -> bytes:
    return draw(json.loads(counts))


@pytest.fixture(autouse=True)
def _plots_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the runs in this process: they would spend half of their time on the same plot, drawn twice by each."""
    monkeypatch.setattr(plot, "lengths_png", lambda counts: _drawn(json.dumps(counts)))


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A server that ana may use."""
    with HubServer() as server:
        server.add_user("ana", token=TOKEN)
        server.add_token("ana", READER, "read")
        yield server


@pytest.fixture
def free_port() -> int:
    """One that nothing listens on, just now."""
    with socket.create_server(("", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture
def scene(hub: HubServer, tmp_path: Path) -> Scene:
    return Scene(hub, tmp_path)
