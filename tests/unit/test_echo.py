import time

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from job.engine import choose_backend
from job.engine.echo import EchoBackend, EchoEngine, EchoTokenizer
from job.errors import SettingsError
from job.local_files import LocalFiles
from job.records import Completion, Request, Source
from tests.unit.builders import settings

HELLO = EchoTokenizer().encode(["Hello, world"])[0]


def _engine(**variables: object) -> EchoEngine:
    return EchoBackend(settings(ENGINE="echo", **variables)).open(1)


def _all(engine: EchoEngine, *requests: Request) -> list[Completion]:
    done: list[Completion] = []
    with engine:
        for request in requests:
            engine.feed(request)
        while len(done) < len(requests):
            done += engine.harvest()
    return done


def test_the_answer_is_the_seed_and_the_prompt() -> None:
    (done,) = _all(_engine(), Request(3, 1, HELLO, 42))
    assert done == Completion(3, 1, "[42] Hello, world", "stop", 5)


def test_the_answer_is_cut_at_max_tokens() -> None:
    (done,) = _all(_engine(MAX_TOKENS=3), Request(0, 0, HELLO, 42))
    assert done == Completion(0, 0, "[42] Hello, ", "length", 3)


@pytest.mark.parametrize(("asked", "done"), [(2, Completion(0, 0, "[42] Hel", "length", 2)), (9, None), (None, None)])
def test_a_request_may_ask_for_a_shorter_answer_and_for_no_longer_one(asked: int | None, done: Completion | None) -> None:
    full = Completion(0, 0, "[42] Hello, ", "length", 3)
    assert _all(_engine(MAX_TOKENS=3), Request(0, 0, HELLO, 42, asked)) == [done or full]


def test_a_shorter_answer_takes_that_share_of_the_time() -> None:
    engine = _engine(MAX_TOKENS=100, ENGINE_ARGS='{"delay_seconds": 10}')
    started = time.monotonic()
    _all(engine, Request(0, 0, HELLO, 2**62, max_tokens=1))
    assert 0.09 <= time.monotonic() - started < 5


def test_the_answer_is_cut_where_the_model_is_full() -> None:
    (done,) = _all(_engine(MAX_MODEL_LEN=len(HELLO) + 2), Request(0, 0, HELLO, 42))
    assert done == Completion(0, 0, "[42] Hel", "length", 2)


def test_an_answer_that_just_fits_is_not_cut() -> None:
    (done,) = _all(_engine(MAX_TOKENS=5), Request(0, 0, HELLO, 42))
    assert (done.finish_reason, done.tokens) == ("stop", 5)


LOOP = EchoTokenizer().encode(["Say " + "la! " * 20])[0]
DETECTION = '{"max_pattern_size": 2, "min_count": 5}'


def test_an_answer_that_loops_ends_there_where_that_is_asked_for() -> None:
    request = Request(0, 0, LOOP, 4)  # "[4] " is a token
    (whole,) = _all(_engine(), request)
    (ended,) = _all(_engine(REPETITION_DETECTION=DETECTION), request)
    assert (whole.finish_reason, whole.tokens) == ("stop", 22)
    assert ended == Completion(0, 0, "[4] Say " + "la! " * 5, "repetition", 7)


@pytest.mark.parametrize(("room", "reason"), [(6, "length"), (7, "length"), (8, "repetition")])
def test_an_answer_that_is_full_when_its_loop_is_found_was_cut(room: int, reason: str) -> None:
    """As vLLM has it, which looks whether there is room first."""
    detection = '{"max_pattern_size": 1, "min_count": 5}'
    (done,) = _all(_engine(REPETITION_DETECTION=detection, MAX_TOKENS=room), Request(0, 0, LOOP, 4))
    assert (done.finish_reason, done.tokens) == (reason, min(room, 7))


def test_a_pattern_of_another_size_is_no_loop() -> None:
    pattern = EchoTokenizer().encode(["abcdefgh" * 10])[0]
    for least, most, reason in (
        (1, 1, "stop"),
        (2, 2, "repetition"),
        (3, 3, "stop"),
        (1, 4, "repetition"),
        (3, 4, "repetition"),
    ):
        detection = f'{{"max_pattern_size": {most}, "min_pattern_size": {least}, "min_count": 3}}'
        (done,) = _all(_engine(REPETITION_DETECTION=detection), Request(0, 0, pattern, 4))
        assert done.finish_reason == reason, (least, most)


def test_every_nth_row_fails_by_its_position() -> None:
    requests = [Request(position, 0, HELLO, position) for position in range(7)]
    done = _all(_engine(ENGINE_ARGS='{"fail_every": 3}'), *requests)
    failed = [each for each in done if each.finish_reason == "error"]
    assert sorted(each.position for each in failed) == [2, 5]
    assert failed[0] == Completion(2, 0, None, "error", 0, "fail_every=3 says so")


def test_requests_finish_in_the_order_of_their_delays() -> None:
    seeds = [2**62, 0, 2**63 - 1]
    requests = [Request(position, 0, HELLO, seed) for position, seed in enumerate(seeds)]
    started = time.monotonic()
    done = _all(_engine(ENGINE_ARGS='{"delay_seconds": 0.1}'), *requests)
    assert [each.position for each in done] == [1, 0, 2]
    assert 0.15 <= time.monotonic() - started < 5


def test_harvest_waits_for_the_first_one_only() -> None:
    engine = _engine(ENGINE_ARGS='{"delay_seconds": 0.05}')
    engine.feed(Request(0, 0, HELLO, 0))
    engine.feed(Request(1, 0, HELLO, 2**63 - 1))
    assert [each.position for each in engine.harvest()] == [0]


def test_the_window_is_an_argument() -> None:
    assert _engine().window == 256
    assert _engine(ENGINE_ARGS='{"window": 3}').window == 3


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ('{"delay": 1}', "delay: Extra inputs are not permitted"),
        ('{"window": 0}', "window: Input should be greater than or equal to 1"),
        ('{"fail_every": "often"}', "fail_every: Input should be a valid integer"),
        ('{"delay_seconds": 1e300}', "delay_seconds: Input should be less than or equal to 86400"),
        ('{"delay_seconds": -1}', "delay_seconds: Input should be greater than or equal to 0"),
    ],
)
def test_arguments_that_it_does_not_take_are_a_settings_error(arguments: str, named: str) -> None:
    with pytest.raises(SettingsError) as caught:
        EchoBackend(settings(ENGINE="echo", ENGINE_ARGS=arguments))
    assert str(caught.value).startswith(f"ENGINE_ARGS: the echo engine does not take this: {named}")


def test_echo_is_chosen_by_its_name() -> None:
    backend = choose_backend(
        settings(ENGINE="echo"), LocalFiles("model", Source("x", "none", local=False), any_format=False), None
    )
    assert isinstance(backend, EchoBackend)
    assert backend.facts["name"] == "echo"
    backend.check()
    assert backend.open(1).facts["device"] == "none"


@effort(max_examples=25, deadline=None)
@given(st.text().filter(lambda text: not text.endswith("\0")))
def test_text_survives_its_tokens(text: str) -> None:
    (ids,) = EchoBackend(settings(ENGINE="echo")).tokenizer().encode([text])
    assert len(ids) == -(-len(text.encode()) // 4)
    assert all(-(2**31) <= token < 2**31 for token in ids)
    (done,) = _all(_engine(), Request(0, 0, ids, 7))
    assert done.text == f"[7] {text}"


def test_a_chat_ends_where_the_answer_begins() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}]
    assert EchoTokenizer().render_chat(messages) == "system: Be brief.\nuser: Hi.\nassistant: "
    assert EchoTokenizer().bos_token_id is None
