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
    print("\n### models\n\n| side | caches | seconds | each model |\n|---|---|---:|---|")
    plain = {"empty": _one_by_one(bench, "empty")}
    jobs = {"empty": [_at_once(bench, "empty", "auto")]}
    jobs["warm"] = [_at_once(bench, f"warm-{number}", "auto") for number in range(bench.repeat)]
    plain["warm"] = _one_by_one(bench, "warm")
    for caches in jobs:
        ratios = [f"{', '.join(f'{each / plain[other]:.2f}' for each in jobs[caches])} {other}" for other in plain]
        print(f"\njob with caches {caches}, of the plain script's time with caches: {'; '.join(ratios)}", flush=True)
    print(f"Without MPS: {_at_once(bench, 'warm-off', 'off'):.1f} s")


def _one_by_one(bench: Bench, caches: str) -> float:
    """Seconds of the plain script, of which it prints where they went."""
    report, seconds = bench.plain(bench.models, [bench.small])
    parts = [f"{each['start']:.0f} + {each['passes'][0]['seconds']:.0f} + {each['end']:.0f}" for each in report["models"]]
    about = f"import {report['import']:.0f}, then start + generate + end: {', '.join(parts)}"
    print(f"| plain script | {caches} | {seconds:.1f} | {about} |", flush=True)
    return seconds


def _at_once(bench: Bench, name: str, mps: str) -> float:
    """Seconds from the start of the loop to its end; prints what became of each model."""
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
    each = "; ".join(", ".join(f"{phase} {value:.0f}" for phase, value in one.items() if value >= 1) for one in phases)
    print(f"| job, {MODELS} at once, MPS={mps} | {name.split('-')[0]} | {seconds:.1f} | {each} |", flush=True)
    return seconds


def _last_event(log: Path) -> dict[str, Any]:
    lines = (line for line in log.read_text("utf-8").splitlines() if line.startswith("{"))
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return next(event for event in reversed(events) if event["event"] == "run_finished")
