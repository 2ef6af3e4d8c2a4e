"""Three models: one after the other by the plain script, and at once on one GPU by the loop over models."""

import json
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu.bench import CAPPED_JOB, MODELS, Bench
from scripts.loop import gpus
from scripts.loop.children import StartedChild
from scripts.loop.main import side_by_side
from scripts.loop.runners import Command, Processes
from scripts.loop.schedule import Effects, Loop
from scripts.loop.settings import LoopSettings

_WEIGHTS = 16_100_000_000  # bytes, of the shape in bfloat16
_SHARED_UTILIZATION = 0.95


class _Runner(Processes):
    """Processes of this interpreter, whose answers have the lengths that their rows name."""

    description = CAPPED_JOB

    def _command(self, module: str, environ: Mapping[str, str]) -> Command:
        return Command((sys.executable, "-m", CAPPED_JOB if module == "job" else module), environ, signal.SIGKILL)


class _NoStops:
    count = 0


def models(bench: Bench) -> None:
    """With caches empty, then as that leaves them: the plain script, and the loop with MPS; and once without MPS, warm."""
    bench = bench.apart("models")
    print("\n### models\n\n| side | caches | seconds | of the plain script | each model |\n|---|---|---:|---:|---|")
    for state, times in (("empty", 1), ("warm", bench.repeat)):
        report, plain = bench.plain(bench.models, [bench.small])
        parts = [f"{each['start']:.0f} + {each['passes'][0]['seconds']:.0f} + {each['end']:.0f}" for each in report["models"]]
        about = f"import {report['import']:.0f}, then start + generate + end: {', '.join(parts)}"
        print(f"| plain script | {state} | {plain:.1f} | | {about} |", flush=True)
        for number, mps in enumerate(["auto"] * times + ["off"] * (state == "warm")):
            seconds, each = _at_once(bench, f"{state}-{number}", mps)
            side = f"job, {MODELS} at once, MPS={mps} | {state}"
            print(f"| {side} | {seconds:.1f} | {seconds / plain:.2f} | {'; '.join(each)} |", flush=True)


def _at_once(bench: Bench, name: str, mps: str) -> tuple[float, list[str]]:
    """Seconds from the start of the loop to its end, and what became of each model."""
    (gpu, *_) = gpus.found_gpus(None)
    part = (gpu.memory or 0) * _SHARED_UTILIZATION / MODELS
    shared = {
        "GPU_MEMORY_UTILIZATION": _SHARED_UTILIZATION,
        "KV_CACHE_MEMORY_BYTES": int(part - _WEIGHTS - gpus.WORKING_MEMORY),
    }
    environ = bench.settings(bench.small, name, **shared) | {
        "MODEL_IDS": " ".join(map(str, bench.models)),
        "PARALLEL": str(MODELS),
    }
    settings = LoopSettings.from_env(environ)
    started = time.monotonic()
    effects = Effects(StartedChild, lambda *_: None, time.monotonic, time.sleep)
    slots, runner = gpus.slots([gpu], MODELS, 1), _Runner()
    with side_by_side(settings, slots, runner, print) as prepared:
        outcomes = Loop(prepared, slots, runner, _NoStops(), effects).run()
    seconds = time.monotonic() - started
    if any(outcome.exit_code for outcome in outcomes):
        sys.exit("\n".join(f"{outcome.model}: {outcome.exit_code} {outcome.message}" for outcome in outcomes))
    phases = [_last_event(Path(outcome.log or ""))["seconds_by_phase"] for outcome in outcomes]
    return seconds, [f"start {each['engine_start']:.0f}, generation {each['generation']:.0f}" for each in phases]


def _last_event(log: Path) -> dict[str, Any]:
    lines = (line for line in log.read_text("utf-8").splitlines() if line.startswith("{"))
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return next(event for event in reversed(events) if event["event"] == "run_finished")
