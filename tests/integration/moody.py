"""The echo engine with something wrong: its answers change with their company, or it does not answer at all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Self

from job.engine import choose_backend
from job.plan import ChooseBackend
from job.protocols import Backend, Engine, Tokenizer
from job.records import Completion, Request

# What becomes of a completion, and how many requests were in flight.
Mood = Callable[[Completion, int], Completion]


class MoodyEngine:
    def __init__(self, engine: Engine, mood: Mood, fed: list[Request]) -> None:
        self._engine = engine
        self._mood = mood
        self._fed = fed
        self._in_flight = 0
        self.window = engine.window
        self.facts = engine.facts
        self.start_seconds = engine.start_seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def feed(self, request: Request) -> None:
        self._fed.append(request)
        self._in_flight += 1
        self._engine.feed(request)

    def harvest(self) -> Sequence[Completion]:
        completions = [self._mood(each, self._in_flight) for each in self._engine.harvest()]
        self._in_flight -= len(completions)
        return completions


class MoodyBackend:
    def __init__(self, backend: Backend, mood: Mood, fed: list[Request]) -> None:
        self._backend = backend
        self._given = mood, fed
        self.facts: Mapping[str, object] = backend.facts

    def check(self) -> None:
        pass

    def tokenizer(self) -> Tokenizer:
        return self._backend.tokenizer()

    def open(self, requests: int) -> MoodyEngine:
        return MoodyEngine(self._backend.open(requests), *self._given)


def moody(mood: Mood, fed: list[Request]) -> ChooseBackend:
    """The backend that the settings name, in this mood; what its engine is fed is added to `fed`."""
    return lambda settings, model, adapter: MoodyBackend(choose_backend(settings, model, adapter), mood, fed)


def saying(words: str) -> Mood:
    """The same words after every answer."""
    return lambda completion, _in_flight: replace(completion, text=f"{completion.text}{words}")


def steady(completion: Completion, _in_flight: int) -> Completion:
    return completion


def shy(completion: Completion, in_flight: int) -> Completion:
    """It says more when nobody else is there."""
    return replace(completion, text=f"{completion.text} (alone)") if in_flight == 1 else completion
