"""What vLLM is asked for, of a request: its own classes, without an engine."""

import inspect
from types import SimpleNamespace
from typing import Any

import pytest

from job.engine.postmortem import Watch
from job.engine.running import Running
from job.engine.vllm_engine import VllmEngine
from job.records import Load, Request
from tests.e2e.fakes import vllm_config

pytestmark = [pytest.mark.slow, pytest.mark.vllm]


@pytest.mark.filterwarnings("ignore")  # vLLM's own, when it is imported
def test_a_request_has_its_own_seed_and_asks_for_no_more_tokens_than_the_run() -> None:
    asked: list[Any] = []
    core = SimpleNamespace(resources=SimpleNamespace(engine_dead=False), shutdown=lambda: None)
    engine: Any = SimpleNamespace(
        engine_core=core,
        vllm_config=vllm_config(),
        add_request=lambda _name, _prompt, params, lora_request: asked.append((params.seed, params.max_tokens, lora_request)),
    )
    with VllmEngine(engine, {"max_tokens": 32}, {}, Watch()) as opened:
        for seed, most in enumerate((None, 4, 99)):
            opened.feed(Request(0, 0, [1], seed, most))
    assert asked == [(0, 32, None), (1, 4, None), (2, 32, None)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("said", "load"), [(None, Load(1, 4)), (3, Load(3, 2)), (0, Load(0, 5)), (9, Load(5, 0))])
def test_requests_at_work_are_the_schedulers_or_as_many_as_it_takes_at_once(said: int | None, load: Load) -> None:
    """max_num_seqs is 1. What the scheduler said is of the step before, and may be more than are left."""
    core = SimpleNamespace(resources=SimpleNamespace(engine_dead=False), shutdown=lambda: None)
    engine: Any = SimpleNamespace(engine_core=core, vllm_config=vllm_config(), get_num_unfinished_requests=lambda: 5)
    running = Running()
    running.requests = said
    with VllmEngine(engine, {}, {}, Watch(), running) as opened:
        assert opened.load == load


@pytest.mark.filterwarnings("ignore")
def test_what_keeps_the_schedulers_figures_has_all_that_vllm_calls() -> None:
    from vllm.v1.metrics.loggers import StatLoggerBase

    recorder = Running().logger(vllm_config(), 0)
    names = {name for name in vars(StatLoggerBase) if not name.startswith("_")}
    assert names == {name for name in names if callable(getattr(recorder, name, None))}
    for name in names:
        theirs, ours = (inspect.signature(getattr(each, name)).parameters for each in (StatLoggerBase, type(recorder)))
        assert [*theirs] == [*ours], name
