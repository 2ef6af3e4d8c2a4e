"""A canary before the rows: fixed prompts are answered alone, one after the other, and then in company. Does any answer change?

It can show that answers depend on what else is answered, never that they do not. The answers alone are also the finest mark of
hardware and versions that there is: where bytes are promised, whoever answers rows of a run must give the same ones.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from job.errors import EngineError
from job.identity import row_seed
from job.protocols import Engine
from job.records import Completion, Request

TEXTS = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "1, 2, 3, 5, 8, 13,",
    "def is_prime(number: int) -> bool:\n",
    "Übersetze ins Englische: Der Zug nach Köln hat heute zwanzig Minuten Verspätung.\n",
    "Explain to a child, step by step and in simple words, why the moon seems to change its shape in the course of a month.",
    '{"name": "Ada", "born": 1815, "languages": ["English", "French"], "friends": [',
    (
        "The old lighthouse had been dark for eleven years when the new keeper came. She carried two suitcases, a lamp "
        "and a dog that was afraid of water. On the first evening she climbed the hundred and forty steps, wiped the dust"
        " from the glass and looked out over the bay, where the fishing boats were coming home one after the other. "
        "Nobody in the village had told her what had happened to the man who was keeper before her, and she had not "
        "asked. On the table in the small round room under the lamp lay an open book, and in it, in a careful hand, "
        "somebody had written:"
    ),
)
# Samples of each prompt in company, and tokens of an answer. On a GPU more than 64 rows at once: from there on kernels go about
# it in another way. That is a second or two there, and would be a minute on a CPU.
_SIZE, _SIZE_ON_CPU = (16, 16), (2, 4)
_MORE = 2  # fed at each step from the second on, so that prompts are read beside answers, as those of rows are
_SEED = 0
_NAME = "canary"
_SHOWN = 60
_ALARMING = 0.5  # of the answers. Rounding changed 2 of 8 where it had most chances, and an engine at fault all 8

Facts = Mapping[str, object]
Prompts = Sequence[Sequence[int]]


class Record(BaseModel):
    """What run.json has of it.

    prompts: how many there are; judged: how many got answers; differing: how many of those got another one in company than
    alone; in_company: how many requests were answered together; tokens: the longest answer; asked, answered: SHA-256 of the
    requests that were answered alone and of their answers, None where one has none.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    prompts: int
    judged: int
    differing: int
    in_company: int
    tokens: int
    asked: str
    answered: str | None

    @property
    def is_alarming(self) -> bool:
        """Whether so many answers changed that rounding is hardly the reason: more often an engine is at fault."""
        return self.differing > self.judged * _ALARMING


@dataclass(frozen=True, slots=True)
class Difference:
    """The answer that a prompt got alone, and another one that it got in company."""

    alone: Completion
    in_company: Completion

    @property
    def prompt(self) -> str:
        return TEXTS[-1 - self.alone.position]


@dataclass(frozen=True, slots=True)
class Findings:
    """What came of it. errors: why prompts could not be judged."""

    record: Record
    differences: Sequence[Difference]
    errors: Sequence[str]

    def beside(self, engine: Facts) -> Facts:
        """The facts of the engine with those of its canary."""
        return {**engine, _NAME: self.record.model_dump()}

    def check(self, engine: Facts) -> None:
        """Where bytes are promised. engine: its facts. Raises: EngineError where an answer was another one in company."""
        if not self.differences:
            return
        first, names = self.differences[0], ("name", "version", "torch", "device", "dtype")
        about = ", ".join(f"{name} {engine[name]}" for name in names if name in engine)
        raise EngineError(
            f"REPRODUCIBILITY=bitwise is not kept here: {self.record.differing} of {self.record.judged} fixed prompts got "
            f"another answer in company than alone. {first.prompt[:_SHOWN]!r} got {first.alone.text!r} alone, and in "
            f"company {first.in_company.text!r}. Take REPRODUCIBILITY=seeded, which does not promise it, or report this with: "
            f"{about}."
        )


def record_of(engine: Facts) -> Record | None:
    """What an engine's facts, as they were read, have of its canary; None where that is nothing, or no such thing."""
    try:
        return Record.model_validate(engine.get(_NAME))
    except ValidationError:
        return None


def conflict(engines: Sequence[Facts]) -> tuple[int, int] | None:
    """The first two engines, by their places, that answered the same prompts differently. What is unknown is no conflict."""
    first: dict[str, tuple[int, str]] = {}
    for place, engine in enumerate(engines):
        record = record_of(engine)
        if record and record.answered:
            other, answered = first.setdefault(record.asked, (place, record.answered))
            if answered != record.answered:
                return other, place
    return None


def worst(engines: Sequence[Facts]) -> Facts:
    """Of several engines' facts, the record in which most answers changed; nothing, where none has one."""
    records = [record for engine in engines if (record := record_of(engine))]
    return {_NAME: max(records, key=lambda record: record.differing).model_dump()} if records else {}


def with_earlier(engine: Facts, earlier: Facts) -> Facts:
    """The facts of an engine that goes on where another one was, with what the canaries of both found: the more changes, and
    the older fingerprint that is known."""
    now, before = record_of(engine), record_of(earlier)
    if not now or not before:
        return {**engine, **worst([engine, earlier])}
    found = max(now, before, key=lambda record: record.differing)
    known = before if before.answered else now
    return {**engine, _NAME: found.model_copy(update={"asked": known.asked, "answered": known.answered}).model_dump()}


def fitted(prompts: Prompts, max_model_len: int) -> Prompts:
    """The token ids of TEXTS, cut where they would leave no room for an answer in max_model_len, in tokens."""
    longest = max(1, max_model_len - max(tokens for _, tokens in (_SIZE, _SIZE_ON_CPU)))
    return [ids[:longest] for ids in prompts]


def sing(engine: Engine, prompts: Prompts) -> Findings:
    """Have an engine that has nothing else to do answer the prompts. Raises: EngineError where it dies."""
    samples, tokens = _SIZE_ON_CPU if engine.facts.get("device") == "cpu" else _SIZE
    samples = max(1, min(samples, engine.window // len(prompts)))
    requests = [  # at positions where no row is
        Request(-1 - number, sample, ids, row_seed(_SEED, number, sample % max(1, samples - 1)), tokens)
        for sample in range(samples)  # the last one has the seed of the first: it begins while that is being answered
        for number, ids in enumerate(prompts)
    ]
    single = requests[: len(prompts)]
    # Alone first, so that what they find in the prefix cache was not computed in company.
    alone = [answer for request in single for answer in _answered(engine, [request], 1)]
    at_once = len(requests) - max(len(prompts), _MORE * (tokens - 1))
    company = _answered(engine, requests, max(1, at_once))
    same_seed = [each for each in company if each.sample in (0, samples - 1)]
    differences, errors = _compared(alone, same_seed)
    record = Record(
        prompts=len(prompts),
        judged=len(prompts) - len(errors),
        differing=len(differences),
        in_company=len(requests),
        tokens=max((answer.tokens for answer in alone), default=0),
        asked=_digest([[list(request.token_ids), request.seed, request.max_tokens] for request in single]),
        answered=_digest([_content(answer) for answer in alone]) if all(map(_is_answer, alone)) else None,
    )
    return Findings(record, differences, errors)


def _compared(alone: Sequence[Completion], company: Sequence[Completion]) -> tuple[list[Difference], list[str]]:
    """The differences, and why prompts could not be judged."""
    differences, errors = [], []
    for answer in alone:
        others = [each for each in company if each.position == answer.position]
        if failed := [each for each in (answer, *others) if not _is_answer(each)]:
            errors.append(failed[0].error or failed[0].finish_reason)
        elif other := [each for each in others if _content(each) != _content(answer)]:
            differences.append(Difference(answer, other[0]))
    return differences, errors


def _answered(engine: Engine, requests: Sequence[Request], at_once: int) -> Sequence[Completion]:
    """All completions. at_once: how many requests are fed before the first step, as far as the window has room for them."""
    done: list[Completion] = []
    fed, allowed = 0, at_once
    while len(done) < len(requests):
        room = min(allowed, len(requests), len(done) + engine.window)
        for request in requests[fed:room]:
            engine.feed(request)
        fed = room
        done += engine.harvest()
        allowed += _MORE
    return done


def _is_answer(completion: Completion) -> bool:
    return completion.text is not None


def _content(answer: Completion) -> list[object]:
    return [answer.text, answer.finish_reason, answer.tokens]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()
