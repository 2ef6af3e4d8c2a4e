"""The canary with engines whose answers depend on company, on order, or on nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from job.canary import TEXTS, Findings, conflict, fitted, record_of, sing, with_earlier, worst
from job.errors import EngineError
from job.records import Completion, Load, Request

PROMPTS = [[number, 1, 2] for number in range(len(TEXTS))]
ENGINE = {"name": "vllm", "version": "1.2.3", "torch": "2.0", "device": "H100", "dtype": "bfloat16", "max_num_seqs": 9}


@dataclass(slots=True)
class Flight:
    """A request at work: how many were fed before it, the step that read its prompt, and what it met.

    most: requests in a step of it, itself included; read_beside: its prompt was read in a step with answers; beside_prompts:
    another's prompt was read in a later step of it.
    """

    request: Request
    number: int
    left: int
    began: int = 0
    most: int = 0
    read_beside: bool = False
    beside_prompts: bool = False

    @property
    def begins(self) -> bool:
        return self.most == 0


class FakeEngine:
    """A token a step. `say` makes the text of an answer out of what its request met."""

    def __init__(self, say: Callable[[Flight], str | None], window: int = 1000, device: str = "H100") -> None:
        self.window = window
        self.facts: dict[str, object] = {**ENGINE, "device": device}
        self.start_seconds: dict[str, float] = {}
        self._say = say
        self._flying: list[Flight] = []
        self.fed: list[Request] = []
        self.flown: list[Flight] = []
        self.most = 0
        self._steps = 0

    @property
    def load(self) -> Load:
        return Load(running=len(self._flying))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def feed(self, request: Request) -> None:
        assert request.max_tokens is not None
        self._flying.append(Flight(request, len(self.fed), request.max_tokens))
        self.fed.append(request)
        self.most = max(self.most, len(self._flying))

    def harvest(self) -> Sequence[Completion]:
        assert self._flying, "harvest is only for requests in flight"
        self._steps += 1
        beginning = [flight for flight in self._flying if flight.begins]
        for flight in self._flying:
            if flight.begins:
                flight.began = self._steps
                flight.read_beside = len(beginning) < len(self._flying)
            else:
                flight.beside_prompts |= bool(beginning)
        for flight in self._flying:
            flight.most = max(flight.most, len(self._flying))
            flight.left -= 1
        done = [flight for flight in self._flying if not flight.left]
        self._flying = [flight for flight in self._flying if flight.left]
        self.flown += done
        return [self._answer(flight) for flight in done]

    def _answer(self, flight: Flight) -> Completion:
        asked, text = flight.request, self._say(flight)
        if text is None:
            return Completion(asked.position, asked.sample, None, "error", 0, "vLLM refused it: no")
        return Completion(asked.position, asked.sample, text, "length", asked.max_tokens or 0)


def same(flight: Flight) -> str:
    """As it should be: an answer is its prompt's and its seed's."""
    return f"{flight.request.token_ids} {flight.request.seed}"


def sung(say: Callable[[Flight], str | None] = same, **engine: object) -> Findings:
    return sing(FakeEngine(say, **engine), PROMPTS)  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["H100", "cpu"])
def test_answers_that_depend_on_nothing_pass(device: str) -> None:
    findings = sung(device=device)
    assert (findings.differences, findings.errors) == ([], [])
    assert (findings.record.prompts, findings.record.judged, findings.record.differing) == (8, 8, 0)
    findings.check(ENGINE)


DEPENDING: dict[str, Callable[[Flight], object]] = {
    "company": lambda flight: flight.most > 1,
    "order": lambda flight: flight.number,
    "a prompt that is read beside answers": lambda flight: flight.read_beside,
    "an answer beside which prompts are read": lambda flight: flight.beside_prompts,
}


@pytest.mark.parametrize("device", ["H100", "cpu"])
@pytest.mark.parametrize("on", DEPENDING)
def test_answers_that_depend_on_it_are_found(on: str, device: str) -> None:
    findings = sung(lambda flight: f"{same(flight)} {DEPENDING[on](flight)}", device=device)
    assert (findings.record.judged, findings.record.differing) == (8, 8)


def test_what_begins_with_more_than_64_rows_is_found_on_a_gpu() -> None:
    assert sung(lambda flight: f"{same(flight)} {flight.most > 64}").record.differing == 8


def test_one_prompt_that_differs_is_counted_and_shown() -> None:
    findings = sung(lambda flight: f"answer {flight.request.position == -3 and flight.most > 1}")
    (difference,) = findings.differences
    assert (findings.record.judged, findings.record.differing) == (8, 1)
    assert difference.prompt == TEXTS[2]
    assert (difference.alone.text, difference.in_company.text) == ("answer False", "answer True")


def test_each_prompt_is_answered_alone_before_any_has_company() -> None:
    engine = FakeEngine(same)
    sing(engine, PROMPTS)
    assert [flight.most for flight in engine.flown[:8]] == [1] * 8
    assert [flight.request.token_ids for flight in engine.flown[:8]] == PROMPTS
    assert min(flight.most for flight in engine.flown[8:]) > 64
    assert len(engine.flown) == 8 + 128


def test_prompts_come_in_at_every_step_of_the_answers_that_were_there_first() -> None:
    engine = FakeEngine(same)
    sing(engine, PROMPTS)
    beginning = [flight.began for flight in engine.flown if flight.read_beside]
    assert len(set(beginning)) == 15, "all but the first of 16 steps"
    assert max(beginning) - min(beginning) == 14


def test_company_has_seeds_of_its_own_and_each_prompts_first_seed_twice() -> None:
    engine = FakeEngine(same)
    sing(engine, PROMPTS)
    alone, company = engine.fed[:8], engine.fed[8:]
    assert len({(request.position, request.sample) for request in company}) == 128
    for request in alone:
        assert request in company
        seeds = [other.seed for other in company if other.position == request.position]
        assert (seeds.count(request.seed), len(set(seeds))) == (2, 15)
    assert max(request.position for request in engine.fed) < 0, "a row may have that position"
    assert {request.max_tokens for request in engine.fed} == {16}


def test_a_cpu_gets_a_tenth_of_it() -> None:
    engine = FakeEngine(same, device="cpu")
    record = sing(engine, PROMPTS).record
    assert (len(engine.fed), record.in_company, record.tokens) == (24, 16, 4)


@pytest.mark.parametrize(("window", "in_company"), [(1, 8), (4, 8), (24, 24), (127, 120), (128, 128)])
def test_no_more_are_in_flight_than_the_engine_wants_and_none_waits_long(window: int, in_company: int) -> None:
    engine = FakeEngine(same, window=window)
    record = sing(engine, PROMPTS).record
    assert record.in_company == in_company
    assert engine.most == min(window, in_company)
    assert record.differing == 0


@pytest.mark.parametrize(("max_model_len", "longest"), [(2, 1), (16, 1), (17, 1), (20, 4), (4096, 300)])
def test_prompts_are_cut_to_leave_room_for_an_answer(max_model_len: int, longest: int) -> None:
    cut = fitted([[7] * 300, [7]], max_model_len)
    assert [len(ids) for ids in cut] == [longest, 1]


def test_the_marks_are_those_of_the_answers_alone() -> None:
    record = sung().record
    assert sung().record == record
    company = sung(lambda flight: f"{same(flight)}{'!' if flight.most > 1 else ''}").record
    other = sung(lambda flight: f"{same(flight)}!").record
    assert (company.asked, company.answered) == (record.asked, record.answered)
    assert other.asked == record.asked
    assert other.answered != record.answered


def test_what_was_asked_otherwise_has_another_mark() -> None:
    assert sing(FakeEngine(same), PROMPTS[::-1]).record.asked != sung().record.asked
    assert sung(device="cpu").record.asked != sung().record.asked


def test_an_answer_that_differs_where_bytes_are_promised_ends_the_run() -> None:
    findings = sung(lambda flight: f"one of {1 if flight.most == 1 else 'many'}")
    with pytest.raises(EngineError) as caught:
        findings.check(ENGINE)
    assert str(caught.value) == (
        "REPRODUCIBILITY=bitwise is not kept here: 8 of 8 fixed prompts got another answer in company than alone. "
        "'What is the capital of France?' got 'one of 1' alone, and in company 'one of many'. Take REPRODUCIBILITY=seeded, "
        "which does not promise it, or report this with: name vllm, version 1.2.3, torch 2.0, device H100, dtype bfloat16."
    )


@pytest.mark.parametrize("alone", [True, False])
def test_a_prompt_without_an_answer_is_not_judged(alone: bool) -> None:
    findings = sung(lambda flight: None if flight.request.position == -2 and (flight.most == 1) == alone else same(flight))
    assert findings.errors == ["vLLM refused it: no"]
    assert (findings.record.prompts, findings.record.judged, findings.record.differing) == (8, 7, 0)
    assert (findings.record.answered is None) is alone
    findings.check(ENGINE)


def test_an_engine_that_dies_says_so() -> None:
    def die(_flight: Flight) -> str:
        raise EngineError("vLLM died")

    with pytest.raises(EngineError, match="vLLM died"):
        sung(die)


def test_the_record_stands_beside_the_facts_and_is_read_back() -> None:
    findings = sung()
    facts = findings.beside(ENGINE)
    assert facts.keys() - ENGINE.keys() == {"canary"}
    assert record_of(facts) == findings.record
    assert record_of(ENGINE) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*sung().record.model_dump()]), inner),
    max_leaves=9,
)


@effort(max_examples=50, deadline=None)
@given(JSON)
def test_what_is_no_record_counts_for_nothing(found: object) -> None:
    whole = sung().record
    facts = {"canary": whole.model_dump() | found if isinstance(found, dict) else found}
    record = record_of(facts)
    assert record is None or record.model_dump() == facts["canary"]


def test_engines_that_gave_different_answers_to_the_same_prompts_are_named() -> None:
    first = sung().beside(ENGINE)
    other = sung(lambda flight: f"{same(flight)}!").beside(ENGINE)
    on_cpu, silent = sung(device="cpu").beside(ENGINE), sung(lambda _flight: None).beside(ENGINE)
    assert conflict([first, ENGINE, {}, silent, on_cpu, first]) is None
    assert conflict([ENGINE, first, on_cpu, other]) == (1, 3)
    assert conflict([]) is None


def test_the_worst_of_several_records_is_kept() -> None:
    good, bad = sung(), sung(lambda flight: f"{flight.most}")
    assert worst([{}, good.beside({}), bad.beside(ENGINE), good.beside({})]) == bad.beside({})
    assert worst([ENGINE, {}]) == {}


def kept(differing: int, answered: str | None, **engine: object) -> dict[str, object]:
    record = {
        "prompts": 8,
        "judged": 8,
        "differing": differing,
        "in_company": 16,
        "tokens": 4,
        "asked": "q",
        "answered": answered,
    }
    return {**ENGINE, **engine, "canary": record}


def test_a_run_that_goes_on_keeps_what_an_earlier_canary_found() -> None:
    merged = with_earlier(kept(0, "a", max_num_seqs=1), kept(5, "a"))
    assert merged["max_num_seqs"] == 1
    record = record_of(merged)
    assert record
    assert record.differing == 5


@pytest.mark.parametrize("now", [ENGINE, kept(0, None)], ids=["none", "not judged"])
def test_a_run_that_goes_on_keeps_the_mark_of_its_first_rows(now: dict[str, object]) -> None:
    """Else one start without a canary would let in a machine that answers otherwise."""
    earlier = kept(0, "a")
    merged = with_earlier(now, earlier)
    assert conflict([merged, kept(0, "b")])
    assert not conflict([merged, kept(0, "a")])


def test_a_run_whose_first_rows_had_no_canary_has_the_mark_of_the_first_that_had() -> None:
    assert with_earlier(kept(0, "a"), ENGINE) == kept(0, "a")
    assert with_earlier(ENGINE, {}) == ENGINE
