import pytest
from huggingface_hub import HfApi

from tests.hub_clients import TOKEN, _client, _session, hub, plain, secure
from tests.hub_server import HubServer, Repository
from tests.hub_server.operations import CARD, TABLE

__all__ = ["_client", "_session", "hub", "plain", "secure"]


@pytest.fixture
def api(hub: HubServer) -> HfApi:
    """The library as ana."""
    return HfApi(hub.url, token=TOKEN)


@pytest.fixture
def repository(hub: HubServer) -> Repository:
    """A dataset ana/d with a card, an LFS file and a regular file."""
    return hub.add_repo("dataset", "ana/d", files={"README.md": CARD, "data/a.parquet": TABLE, "data/b.txt": "b"})
