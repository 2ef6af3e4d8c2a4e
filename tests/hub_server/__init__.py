"""A Hugging Face Hub for tests: the real clients talk to it over TCP, and it fails when told to.

    with HubServer() as hub:
        hub.add_user("ana", token="hf_ana")
        repo = hub.add_repo("dataset", "ana/d", files={"a.txt": "hello"})
        hub.fail(Status(503), method="POST", path=r"/commit/", times=2)
        ...  # run a client with hub.environment("hf_ana"), or HfApi(hub.url, token="hf_ana")
        assert repo.history()[0].title == "Add answers"
        assert [seen.status for seen in hub.seen("POST", "/commit/")] == [503, 503, 200]

Without TLS an anonymous request for a missing or private repository is a bare 401 to huggingface_hub, as its rule that
turns it into RepositoryNotFoundError looks at https addresses only: test such cases with HubServer(tls=True).
There are no pull requests, spaces, renames or Xet storage.
"""

from tests.hub_server.access import FineGrained
from tests.hub_server.application import Seen
from tests.hub_server.faults import (
    Call,
    CorruptDownload,
    CorruptUpload,
    CutAnswer,
    Delay,
    Fault,
    LoseAnswer,
    Reset,
    Rule,
    Status,
    Truncate,
)
from tests.hub_server.repository import Commit, Repository
from tests.hub_server.server import HubServer

__all__ = [
    "Call",
    "Commit",
    "CorruptDownload",
    "CorruptUpload",
    "CutAnswer",
    "Delay",
    "Fault",
    "FineGrained",
    "HubServer",
    "LoseAnswer",
    "Repository",
    "Reset",
    "Rule",
    "Seen",
    "Status",
    "Truncate",
]
