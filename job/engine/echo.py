"""An engine without a model: it repeats the prompt. For tests, dry runs, and trying out everything around an engine.

As of a model, an answer ends at MAX_TOKENS, at MAX_MODEL_LEN, and where REPETITION_DETECTION finds a loop in it.

ENGINE_ARGS understands:
    delay_seconds   mean time of a request (0); each takes between half and one and a half of it, by a hash of its seed, and one
                    that asks for fewer tokens than MAX_TOKENS that share of it
    fail_every      every n-th row, by position, ends with an error (0: none)
    window          requests in flight (256)
"""

import heapq
import time
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from job.errors import Problem, SettingsError
from job.records import Completion, FinishReason, Load, Request
from job.settings import SamplingSettings, Settings

TOKEN_BYTES = 4  # about what a token of English is


class _Switches(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    delay_seconds: float = Field(0, ge=0, le=86400)
    fail_every: int = Field(0, ge=0)
    window: int = Field(256, ge=1)


class EchoTokenizer:
    """Four bytes of UTF-8 are a token; the last one is filled up with zero bytes."""

    bos_token_id = None

    def encode(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        return [_token_ids(text) for text in texts]

    def render_chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        return "".join(f"{message['role']}: {message['content']}\n" for message in messages) + "assistant: "


def _token_ids(text: str) -> Sequence[int]:
    data = text.encode()
    ids: list[int] = np.frombuffer(data + bytes(-len(data) % TOKEN_BYTES), dtype="<i4").tolist()
    return ids


def _text(token_ids: Sequence[int]) -> str:
    return np.asarray(token_ids, dtype="<i4").tobytes().rstrip(b"\0").decode(errors="ignore")


class EchoBackend:
    facts: Mapping[str, object] = {"name": "echo", "version": 1}
    phase = "engine"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        try:
            self._switches = _Switches(**settings.engine.engine_args)
        except ValidationError as error:
            problem = "; ".join(f"{detail['loc'][0]}: {detail['msg']}" for detail in error.errors())
            message = f"the echo engine does not take this: {problem}. It takes {', '.join(_Switches.model_fields)}"
            raise SettingsError([Problem("ENGINE_ARGS", None, message)]) from error

    def check(self) -> None:
        pass

    def tokenizer(self) -> EchoTokenizer:
        return EchoTokenizer()

    def open(self, requests: int) -> "EchoEngine":
        return EchoEngine(self._settings.sampling, self._settings.engine.max_model_len, self._switches)


class EchoEngine:
    def __init__(self, sampling: SamplingSettings, max_model_len: int, switches: _Switches) -> None:
        self._max_tokens = sampling.max_tokens
        self._repetition = sampling.repetition_detection
        self._max_model_len = max_model_len
        self._switches = switches
        self._due: list[tuple[float, int, Request]] = []
        self.window = switches.window
        self.facts: Mapping[str, object] = {"device": "none", **EchoBackend.facts}
        self.start_seconds: Mapping[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._due.clear()

    @property
    def load(self) -> Load:
        """It works on all that it has."""
        return Load(running=len(self._due))

    def feed(self, request: Request) -> None:
        share = request.limit(self._max_tokens) / self._max_tokens
        due = time.monotonic() + self._switches.delay_seconds * share * (0.5 + request.seed / 2**63)
        heapq.heappush(self._due, (due, request.seed, request))

    def harvest(self) -> Sequence[Completion]:
        time.sleep(max(0.0, self._due[0][0] - time.monotonic()))
        done = []
        while self._due and self._due[0][0] <= time.monotonic():
            done.append(self._answer(heapq.heappop(self._due)[2]))
        return done

    def _answer(self, request: Request) -> Completion:
        every = self._switches.fail_every
        if every and request.position % every == every - 1:
            return Completion(request.position, request.sample, None, "error", 0, f"fail_every={every} says so")
        answer = _token_ids(f"[{request.seed}] {_text(request.token_ids)}")
        room = min(request.limit(self._max_tokens), self._max_model_len - len(request.token_ids))
        loop = _loop_end(answer[: room - 1], **self._repetition) if self._repetition else None
        reason: FinishReason = "repetition" if loop else "length" if len(answer) > room else "stop"
        tokens = loop or min(len(answer), room)
        return Completion(request.position, request.sample, _text(answer[:tokens]), reason, tokens)


def _loop_end(ids: Sequence[int], max_pattern_size: int, min_pattern_size: int, min_count: int) -> int | None:
    """How many tokens there are when the last ones are a pattern of such a size so many times; None where that never is.

    After `count` times a pattern of `size`, the last `size * (count - 1)` tokens are those that came `size` before them.
    """
    same = dict.fromkeys(range(min_pattern_size, max_pattern_size + 1), 0)
    for place, token in enumerate(ids):
        for size in same:
            same[size] = same[size] + 1 if place >= size and ids[place - size] == token else 0
            if same[size] >= size * (min_count - 1):
                return place + 1
    return None
