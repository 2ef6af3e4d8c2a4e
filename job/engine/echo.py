"""An engine without a model: it repeats the prompt. For tests, dry runs, and trying out everything around an engine.

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
from job.records import Completion, FinishReason, Request
from job.settings import Settings

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
        return EchoEngine(self._settings.sampling.max_tokens, self._settings.engine.max_model_len, self._switches)


class EchoEngine:
    def __init__(self, max_tokens: int, max_model_len: int, switches: _Switches) -> None:
        self._max_tokens = max_tokens
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
        reason: FinishReason = "length" if len(answer) > room else "stop"
        return Completion(request.position, request.sample, _text(answer[:room]), reason, min(len(answer), room))
