"""The refusals of the server: a status, a sentence, and the code that the clients turn into an exception."""


class HubError(Exception):
    """A request that is answered with an error. `code` is the X-Error-Code, None where the Hub sends none."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


def invalid_credentials() -> HubError:
    """The token is unknown or expired."""
    return HubError(401, "Invalid credentials in Authorization header")


def login_required() -> HubError:
    """Nobody is logged in, and the thing asked for is private or not there: the Hub does not say which."""
    return HubError(401, "Invalid username or password.")


def repository_not_found() -> HubError:
    return HubError(404, "Repository not found", "RepoNotFound")


def revision_not_found(revision: str) -> HubError:
    return HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def entry_not_found(path: str = "") -> HubError:
    return HubError(404, f"Entry not found: {path}" if path else "Entry not found", "EntryNotFound")


def stale_parent() -> HubError:
    return HubError(412, "A commit has happened since. Please refresh and try again.")
