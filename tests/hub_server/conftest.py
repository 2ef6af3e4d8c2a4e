"""Real clients in this process: plain LFS in place of Xet, and no tokens but those that a test passes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, close_session, constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars  # type: ignore[attr-defined]

from tests.hub_server import HubServer, Repository
from tests.hub_server.operations import CARD, TABLE

TOKEN = "hf_ana"


@pytest.fixture(autouse=True, scope="module")
def _session() -> Iterator[None]:
    """Its own connections for each module: to make a client takes longer than most tests here."""
    close_session()
    disable_progress_bars()
    yield
    enable_progress_bars()
    close_session()


@pytest.fixture(autouse=True)
def _client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def secure(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A server with TLS, which the library trusts."""
    with HubServer(tls=True) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificates))
        close_session()
        server.add_user("ana", token=TOKEN)
        yield server
        close_session()


@pytest.fixture
def plain() -> Iterator[HubServer]:
    """A server that ana may use."""
    with HubServer() as server:
        server.add_user("ana", token=TOKEN)
        yield server


@pytest.fixture
def hub(plain: HubServer) -> HubServer:
    return plain


@pytest.fixture
def api(hub: HubServer) -> HfApi:
    """The library as ana."""
    return HfApi(hub.url, token=TOKEN)


@pytest.fixture
def repository(hub: HubServer) -> Repository:
    """A dataset ana/d with a card, an LFS file and a regular file."""
    return hub.add_repo("dataset", "ana/d", files={"README.md": CARD, "data/a.parquet": TABLE, "data/b.txt": "b"})
