"""Real vLLM, greedy: an answer that loops ends with REPETITION_DETECTION, at the same token in whatever batch it is."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from job.engine.echo import _loop_end
from job.engine.postmortem import Watch
from job.engine.vllm import VllmBackend
from job.engine.vllm_engine import VllmEngine
from job.local_files import LocalFiles
from job.protocols import Engine
from job.records import Completion, Request, Source
from tests.e2e.conftest import ENGINE, QUESTIONS
from tests.unit.builders import settings

# What torch and vLLM warn of when they are imported is theirs.
pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]

LOOP = len(QUESTIONS)  # the position of the one that makes this model say " yes," without end
PROMPTS = [*QUESTIONS, "Continue this list without end: yes, yes, yes, yes, yes, yes, yes, yes,"]
DETECTION = {"max_pattern_size": 4, "min_count": 8}
MAX_TOKENS = 64
Answers = Mapping[int, Completion]


@dataclass(frozen=True, slots=True)
class Passes:
    """What one engine answered: everything without detection, everything with it, and with it the loop alone."""

    plain: Answers
    detecting: Answers
    alone: Answers


def backend(model: Path, **variables: object) -> VllmBackend:
    chosen = settings(TEMPERATURE=0, MAX_TOKENS=MAX_TOKENS, **ENGINE, **variables)
    return VllmBackend(chosen, LocalFiles("model", Source(str(model), "sha256:0", local=True), any_format=False))


def answered(engine: Engine, requests: Sequence[Request]) -> Answers:
    done: dict[int, Completion] = {}
    for request in requests:
        engine.feed(request)
    while len(done) < len(requests):
        done |= {completion.position: completion for completion in engine.harvest()}
    return done


@pytest.fixture(scope="module")
def passes(model: Path) -> Passes:
    without, with_it = backend(model), backend(model, REPETITION_DETECTION=json.dumps(DETECTION))
    tokenizer = without.tokenizer()
    texts = [tokenizer.render_chat([{"role": "user", "content": text}]) for text in PROMPTS]
    requests = [Request(position, 0, ids, 0) for position, ids in enumerate(tokenizer.encode(texts))]
    # The other settings over the same engine: they differ in what comes with each request.
    with (
        without.open(len(PROMPTS)) as plain,
        VllmEngine(plain._engine, with_it._sampling(), with_it.facts, Watch()) as detecting,
    ):
        return Passes(answered(plain, requests), answered(detecting, requests), answered(detecting, requests[LOOP:]))


def test_a_loop_ends_with_its_reason_and_the_beginning_of_what_it_would_have_been(passes: Passes) -> None:
    endless, ended = passes.plain[LOOP], passes.detecting[LOOP]
    assert (endless.finish_reason, endless.tokens) == ("length", MAX_TOKENS)
    assert ended.finish_reason == "repetition"
    assert ended.text is not None
    assert ended.text.endswith(", yes" * 8)
    assert endless.text is not None
    assert endless.text.startswith(ended.text)
    assert 16 <= ended.tokens < MAX_TOKENS


def test_a_loop_ends_at_the_same_token_alone_and_among_others(passes: Passes) -> None:
    assert passes.alone == {LOOP: passes.detecting[LOOP]}


def test_other_answers_are_as_they_are_without_it(passes: Passes) -> None:
    others = range(LOOP)
    assert [passes.detecting[position] for position in others] == [passes.plain[position] for position in others]
    assert "Paris" in str(passes.detecting[0].text)


@effort(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 1), max_size=24), st.integers(1, 4), st.integers(1, 4), st.integers(2, 4))
def test_the_echo_engine_finds_the_loops_that_vllm_finds(ids: list[int], least: int, most: int, count: int) -> None:
    from vllm.sampling_params import RepetitionDetectionParams
    from vllm.v1.core.sched.utils import check_sequence_repetition

    least, most = sorted((least, most))
    found = RepetitionDetectionParams(max_pattern_size=most, min_pattern_size=least, min_count=count)
    ends = (end for end in range(1, len(ids) + 1) if check_sequence_repetition(ids[:end], found))
    assert _loop_end(ids, most, least, count) == next(ends, None)
