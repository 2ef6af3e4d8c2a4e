"""The seams between stages: what one stage needs of another, so that none imports another."""

from collections.abc import Mapping, Sequence
from typing import Protocol, Self

from job.records import Completion, Request


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

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def feed(self, request: Request) -> None:
        """Take a request in. A request that the engine refuses comes back from `harvest` as an error of its row."""

    def harvest(self) -> Sequence[Completion]:
        """Work on for a moment and give what finished, perhaps nothing. Call it only with requests in flight.

        Raises: EngineError where the engine died.
        """


class Backend(Protocol):
    """A model and how it is run, before anything expensive is done."""

    @property
    def facts(self) -> Mapping[str, object]:
        """Name and version, as they count in the identity."""

    def check(self) -> None:
        """Raises: SettingsError where the model cannot be loaded for a reason that is cheap to see."""

    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer. Raises: SettingsError where it has none."""

    def open(self) -> Engine:
        """Load the model. Raises: EngineError, or SettingsError where a setting does not fit the model."""


class Stop(Protocol):
    """Whether the run was asked to stop."""

    @property
    def signal(self) -> str | None:
        """The name of the signal that asked for it, None until then."""

    @property
    def grace_is_over(self) -> bool:
        """Whether rows in flight have had their time to finish after it."""
