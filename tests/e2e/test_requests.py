"""What vLLM is asked for, of a request: its own classes, without an engine."""

from types import SimpleNamespace
from typing import Any

import pytest

from job.engine.postmortem import Watch
from job.engine.vllm import VllmEngine
from job.records import Request
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
