"""The environment becomes a loop over models, and what came of it an exit code."""

import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from types import FrameType

from job.disk import check_writable, disk_errors, json_text, write_whole
from job.errors import JobError
from scripts.environment import ROOT, layered, read
from scripts.loop import gpus, mps, runners, summary
from scripts.loop.children import StartedChild
from scripts.loop.schedule import Effects, Loop, Say
from scripts.loop.settings import LoopSettings

SUMMARY = "summary.json"


class Signals:
    """How many signals came that ask the loop to stop. One that the loop was started without, as by nohup, stays away."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


def main(environ: Mapping[str, str]) -> int:
    """All models of MODEL_IDS. Returns: the exit code, see scripts.loop.summary."""
    try:
        return _generate_all(LoopSettings.from_env(layered(environ, read(ROOT / ".env"), {})))
    except JobError as error:
        print(f"generate-all: {error.message}", file=sys.stderr)
        return error.exit_code


@contextmanager
def side_by_side(
    settings: LoopSettings, slots: Sequence[gpus.Slot], runner: runners.Runner, say: Say
) -> Iterator[LoopSettings]:
    """The settings with what has models that share a GPU use it at the same time, while the block runs."""
    if not mps.wanted(slots, settings.environ, containers=isinstance(runner, runners.Containers)):
        yield settings
        return
    with mps.service(settings.environ, partial(say, "")) as variables:
        yield replace(settings, environ={**settings.environ, **variables})


def _generate_all(settings: LoopSettings) -> int:
    check_writable(settings.output)
    found = gpus.found_gpus(settings.environ.get("CUDA_VISIBLE_DEVICES"))
    slots = gpus.slots(found, settings.parallel, max(1, int(settings.number("TENSOR_PARALLEL_SIZE", 1))))
    for slot in slots:
        gpus.check(slot, settings.environ)
    runner = runners.choose(settings, has_gpu=bool(found))
    stops, started = Signals(), time.monotonic()
    width = max(len(model.name) for model in settings.models)

    def say(name: str, text: str) -> None:
        with suppress(OSError):  # the terminal may be gone; the loop goes on
            print(f"{time.strftime('%H:%M:%S')}  {name:{width}}  {text}", flush=True)

    at_once = "one after the other" if settings.parallel == 1 else f"{settings.parallel} at once"
    say("", f"models: {len(settings.models)}, {at_once}, as {runner.description}")
    with side_by_side(settings, slots, runner, say) as prepared:
        outcomes = Loop(prepared, slots, runner, stops, Effects(StartedChild, say, time.monotonic, time.sleep)).run()
    code = summary.exit_code(outcomes, stopped=bool(stops.count))
    with suppress(OSError):
        print(f"\n{summary.table(outcomes)}", flush=True)
    with disk_errors(settings.output):
        write_whole(settings.output / SUMMARY, json_text(summary.facts(outcomes, code, time.monotonic() - started)))
    return code
