"""The seams between stages: what one stage needs of another, so that none imports another."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, Self, TypeVar

from job.records import Completion, Kind, Load, Part, Published, Release, Request, Snapshot, Source


class Tokenizer(Protocol):
    """What prompts need of the model's tokenizer."""

    @property
    def bos_token_id(self) -> int | None:
        """The token that the tokenizer puts in front of every text, or None where it puts none."""

    def encode(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        """Token ids of each text, as written: nothing is put before or after it."""

    def render_chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The text of a conversation, up to where the model's turn begins.

        Raises: SettingsError where the model has no chat template; ValueError where the template refuses the messages.
        """


class Engine(Protocol):
    """Answers requests, several at a time and in any order. A context manager: it frees the device at the end."""

    @property
    def window(self) -> int:
        """How many requests are worth having in flight."""

    @property
    def facts(self) -> Mapping[str, object]:
        """Versions, device and effective settings, for run.json."""

    @property
    def start_seconds(self) -> Mapping[str, float]:
        """How long each part of its start took."""

    @property
    def load(self) -> Load:
        """The requests in flight. Other threads ask for it too."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def feed(self, request: Request) -> None:
        """Take a request in. A request that the engine refuses comes back from `harvest` as an error of its row."""

    def harvest(self) -> Sequence[Completion]:
        """Work on for a moment and give what finished, perhaps nothing. Call it only with requests in flight.

        Raises: EngineError where the engine died.
        """


class ModelFiles(Protocol):
    """The files of a model or adapter, on this machine or still on the Hub."""

    @property
    def source(self) -> Source:
        """What they are, at which commit."""

    def check(self) -> None:
        """Look whether everything that is needed is there, may be read and has room here; no weights are read.

        Raises: SettingsError, AccessError, HubUnavailableError, OutputError.
        """

    def small_files(self) -> Path:
        """The folder with everything but the weights: configuration and tokenizer."""

    def all_files(self) -> Path:
        """The folder with the weights too. May take as long as their download takes."""


class Backend(Protocol):
    """A model and how it is run, before anything expensive is done."""

    @property
    def facts(self) -> Mapping[str, object]:
        """Name and version, as they count in the identity."""

    @property
    def phase(self) -> str:
        """What `open` is at, in a word. Other threads ask for it meanwhile."""

    def check(self) -> None:
        """Raises: SettingsError where the model cannot be loaded for a reason that is cheap to see."""

    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer. Raises: SettingsError where it has none."""

    def open(self, requests: int) -> Engine:
        """Load the model, to answer so many requests.

        Raises: EngineError, or SettingsError where a setting does not fit the model.
        """


T = TypeVar("T")


class Hub(Protocol):
    """What a run needs of the Hugging Face Hub.

    Each call tries again what may pass by itself, and raises: AccessError where the Hub refuses; HubUnavailableError where it
    does not answer for too long; SettingsError where a name is wrong; StoppedError where the run is asked to stop meanwhile.
    """

    def resolve(self, kind: Kind, repo_id: str, revision: str) -> Source:
        """The commit that a branch or tag stands for now."""

    def files(self, kind: Kind, source: Source, *, any_format: bool) -> ModelFiles:
        """The files of a model or adapter; nothing is asked or fetched yet."""

    def read(self, attempt: Callable[[], T], doing: str) -> T:
        """What another library reads from the Hub."""

    def check_target(self, repo_id: str) -> None:
        """Whether results may be published there. Changes nothing."""

    def prepare_target(self, repo_id: str) -> None:
        """Make the repository for the results where it does not exist yet."""

    def look(self, repo_id: str, see: Callable[[Snapshot], T], branch: str | None = None) -> T | None:
        """What `see` makes of a results repository, or of a branch of it; None where it does not exist."""

    def publish(self, repo_id: str, release: Release, rows_of: Callable[[str], int], verified: str | None) -> Published:
        """Publish in one commit and read it back.

        rows_of: rows of the split that a reader gets at a commit; verified: a commit that was read back before.
        """

    def contribute(self, repo_id: str, branch: str, part: Part, see: Callable[[Snapshot], T]) -> T:
        """Put a shard's part on a branch. What `see` makes of the branch at a commit that has it."""

    def remove_branch(self, repo_id: str, branch: str) -> None:
        """Remove a branch that has served its purpose; where that fails it stays, and does no harm."""


class Stop(Protocol):
    """Whether the run was asked to stop."""

    @property
    def signal(self) -> str | None:
        """The name of the signal that asked for it, None until then."""

    @property
    def grace_is_over(self) -> bool:
        """Whether rows in flight have had their time to finish after it."""


class InterruptingStop(Stop, Protocol):
    """A stop that can also break off what does not look at it."""

    def interrupting(self) -> AbstractContextManager[None]:
        """Leaves its block with job.shutdown.Interrupted as soon as a stop is asked for."""

    def interrupting_after_grace(self) -> AbstractContextManager[None]:
        """Leaves its block with job.shutdown.Interrupted as soon as the time after that is over."""
