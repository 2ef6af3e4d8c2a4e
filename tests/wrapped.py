"""The engine that the settings name, with something around it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Self

from job.engine import choose_backend
from job.plan import ChooseBackend
from job.protocols import Backend, Engine, Tokenizer
from job.records import Completion, Load, Request


class WrappedEngine:
    """An engine that hands everything on to another one: override what is to be different."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.window = engine.window
        self.facts: Mapping[str, object] = engine.facts
        self.start_seconds = engine.start_seconds

    @property
    def load(self) -> Load:
        return self.engine.load

    def __enter__(self) -> Self:
        self.engine.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.engine.__exit__(*error)

    def feed(self, request: Request) -> None:
        self.engine.feed(request)

    def harvest(self) -> Sequence[Completion]:
        return self.engine.harvest()


class _WrappedBackend:
    def __init__(self, backend: Backend, wrap: Callable[[Engine], Engine]) -> None:
        self._backend = backend
        self._wrap = wrap
        self.facts: Mapping[str, object] = backend.facts

    @property
    def phase(self) -> str:
        return self._backend.phase

    def check(self) -> None:
        self._backend.check()

    def tokenizer(self) -> Tokenizer:
        return self._backend.tokenizer()

    def open(self, requests: int) -> Engine:
        return self._wrap(self._backend.open(requests))


def wrapping(wrap: Callable[[Engine], Engine]) -> ChooseBackend:
    """The backend that the settings name, whose engine is wrapped."""
    return lambda settings, model, adapter: _WrappedBackend(choose_backend(settings, model, adapter), wrap)
