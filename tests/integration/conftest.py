"""A Hub, and the job that publishes to it."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_server import HubServer
from tests.integration.publishing import READER, TOKEN, Scene


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
