"""What the routes work on, and who may do what to which repository."""

from dataclasses import dataclass

from tests.hub_server.access import Access
from tests.hub_server.blobs import Blobs
from tests.hub_server.errors import HubError, login_required, repository_not_found
from tests.hub_server.messages import Request
from tests.hub_server.repository import Kind, Repository
from tests.hub_server.store import Store
from tests.hub_server.uploads import Uploads


def kind_of(prefix: str | None) -> Kind:
    """The kind that a path means: `models`, `datasets`, or nothing for models."""
    return "dataset" if prefix == "datasets" else "model"


@dataclass(frozen=True, slots=True)
class Context:
    url: str
    storage_url: str
    store: Store
    access: Access
    blobs: Blobs
    uploads: Uploads
    page_size: int
    """Entries in one page of a tree or of the commits."""
    part_size: int | None
    """Larger LFS files are uploaded in parts of so many bytes; None for never."""

    def readable(self, request: Request) -> Repository:
        """The repository of the path, if the caller may know of it. Files of a gated one may still be closed to them."""
        repository = self.store.find(kind_of(request.params.get("kind")), request.params["repo"])
        if repository is None or (repository.private and not request.caller.reads(repository.namespace, repository.scope)):
            raise login_required() if request.caller.name is None else repository_not_found()
        return repository

    def downloadable(self, request: Request) -> Repository:
        """The repository of the path, if the caller may read its files."""
        repository = self.readable(request)
        name = request.caller.name
        is_granted = name in repository.granted
        if not repository.gated or request.caller.opens_gated(repository.namespace, repository.scope, is_granted):
            return repository
        what = f"Access to {repository.kind} {repository.id} is restricted"
        if name is None:
            raise HubError(401, f"{what}. You must have access to it and be authenticated to access it.", "GatedRepo")
        if is_granted:
            raise HubError(403, "Please enable access to public gated repositories in your token settings.", "GatedRepo")
        raise HubError(403, f"{what} and you are not in the authorized list.", "GatedRepo")

    def writable(self, request: Request) -> Repository:
        """The repository of the path, if the caller may write to it."""
        repository = self.readable(request)
        self.require_write(request, repository.kind, repository.id)
        return repository

    def require_write(self, request: Request, kind: Kind, repo_id: str) -> None:
        """Raises: HubError where the caller may not write there, be there a repository or not."""
        namespace = repo_id.partition("/")[0]
        if request.caller.name is None:
            raise login_required()
        if not request.caller.writes(namespace, f"{kind}s/{repo_id}"):
            raise HubError(403, f"You don't have the rights to write to the {kind} {repo_id} under the namespace {namespace}")

    def web_url(self, repository: Repository) -> str:
        prefix = "datasets/" if repository.kind == "dataset" else ""
        return f"{self.url}/{prefix}{repository.id}"
