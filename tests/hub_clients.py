"""Fixtures: real clients of the Hub in this process, with plain LFS in place of Xet and no tokens but those that a test passes.

A conftest imports the ones that its folder needs.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars  # type: ignore[attr-defined]

from tests.hub_server import HubServer

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
