"""The feed loop: keep a window of requests in flight, hand over each row when all its samples are there."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import structlog

from job.identity import row_seed
from job.protocols import Engine, InterruptingStop
from job.records import Completion, Prompt, Request, ResultRow

_WAITING = "for rows in flight, SHUTDOWN_GRACE_SECONDS at most; a second signal ends the job at once"

log = structlog.get_logger()


@dataclass(slots=True)
class _Open:
    """A row whose samples are being generated."""

    prompt: Prompt
    done: dict[int, Completion] = field(default_factory=dict)


def failed_row(prompt: Prompt, num_samples: int) -> ResultRow:
    """The row of a prompt that cannot be answered."""
    failure = prompt.failure
    if failure is None:
        raise ValueError(f"row {prompt.position} can be answered")
    completions = (
        Completion(prompt.position, sample, None, failure.reason, 0, failure.message) for sample in range(num_samples)
    )
    return ResultRow(prompt.position, prompt.text, prompt.tokens, tuple(completions))


def generate(
    prompts: Iterable[Prompt],
    engine: Engine,
    *,
    seed: int,
    num_samples: int,
    stop: InterruptingStop,
    on_row: Callable[[ResultRow], None],
) -> bool:
    """Answer all prompts; `on_row` gets each row as soon as it is finished.

    After a stop signal nothing more is fed, and what is in flight may finish within the signal's grace.
    Returns whether all prompts were answered. Raises: what `stop` does where the engine gives nothing until the grace is over.
    """
    requests = _requests(prompts, seed, num_samples)
    rows: dict[int, _Open] = {}
    in_flight, more, noticed = 0, True, False
    while True:
        while more and not stop.signal and in_flight < engine.window:
            try:
                prompt, request = next(requests)
            except StopIteration:
                more = False
                break
            rows.setdefault(prompt.position, _Open(prompt))
            engine.feed(request)
            in_flight += 1
        if not in_flight or stop.grace_is_over:
            return not in_flight and (not more or next(requests, None) is None)
        if stop.signal and not noticed:
            noticed = True
            log.warning("shutdown_requested", signal=stop.signal, in_flight=in_flight, waiting=_WAITING)
        with stop.interrupting_after_grace():  # an engine that hangs must not outlast the grace
            completions = engine.harvest()
        for completion in completions:
            in_flight -= 1
            row = rows[completion.position]
            row.done[completion.sample] = completion
            if len(row.done) == num_samples:
                del rows[completion.position]
                on_row(_result(row))


def _requests(prompts: Iterable[Prompt], seed: int, num_samples: int) -> Iterator[tuple[Prompt, Request]]:
    for prompt in prompts:
        for sample in range(num_samples):
            seeded = row_seed(seed, prompt.position, sample)
            yield prompt, Request(prompt.position, sample, prompt.token_ids, seeded)


def _result(row: _Open) -> ResultRow:
    completions = tuple(row.done[sample] for sample in sorted(row.done))
    return ResultRow(row.prompt.position, row.prompt.text, row.prompt.tokens, completions)
