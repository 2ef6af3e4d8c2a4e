"""The echo engine with something wrong: its answers change with their company, or it does not answer at all."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from job.plan import ChooseBackend
from job.protocols import Engine
from job.records import Completion, Request
from tests.wrapped import WrappedEngine, wrapping

# What becomes of a completion, and how many requests were in flight.
Mood = Callable[[Completion, int], Completion]


class MoodyEngine(WrappedEngine):
    def __init__(self, engine: Engine, mood: Mood, fed: list[Request]) -> None:
        super().__init__(engine)
        self._mood = mood
        self._fed = fed
        self._in_flight = 0

    def feed(self, request: Request) -> None:
        self._fed.append(request)
        self._in_flight += 1
        super().feed(request)

    def harvest(self) -> Sequence[Completion]:
        completions = [self._mood(each, self._in_flight) for each in super().harvest()]
        self._in_flight -= len(completions)
        return completions


def moody(mood: Mood, fed: list[Request]) -> ChooseBackend:
    """The backend that the settings name, in this mood; what its engine is fed is added to `fed`."""
    return wrapping(lambda engine: MoodyEngine(engine, mood, fed))


def saying(words: str) -> Mood:
    """The same words after every answer."""
    return lambda completion, _in_flight: replace(completion, text=f"{completion.text}{words}")


def steady(completion: Completion, _in_flight: int) -> Completion:
    return completion


def shy(completion: Completion, in_flight: int) -> Completion:
    """It says more when nobody else is there."""
    return replace(completion, text=f"{completion.text} (alone)") if in_flight == 1 else completion
