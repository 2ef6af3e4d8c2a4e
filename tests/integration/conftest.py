"""The test Hub as the processes of these tests find it."""

from collections.abc import Iterator

import pytest

from tests.hub_server import HubServer

TOKEN = "hf_ana"


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A server that ana may use."""
    with HubServer() as server:
        server.add_user("ana", token=TOKEN)
        yield server
