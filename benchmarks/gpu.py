"""The job on a GPU, against what people write without it: start-up, throughput, three models on one GPU, bitwise, signals.

The model has Llama 3.1 8B's shape and weights that vLLM makes up, so nothing is downloaded. The rows are instructions written
by people: 334 of them with answers of 64 tokens, where 3 % run on until there is no more room, and 10,000 with answers of 256.
The other side is benchmarks.plain_script, with vLLM's own defaults. Each side has folders of its own for caches, empty at
first.

Run it from the root of the project on a GPU host that has vLLM and the embedded model: `python -m benchmarks.gpu`, or some of
its parts, such as `python -m benchmarks.gpu models --repeat 3`. What it prints is for benchmarks/RESULTS.md. Reproducibility is
shown with real weights, those of the embedded model, by benchmarks.reproducibility, which is the last part.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

from benchmarks.scale import ROOT
from benchmarks.shape import MAX_MODEL_LEN, short_with_runaways, write_model, write_rows
from scripts.loop import gpus
from scripts.loop.children import StartedChild
from scripts.loop.main import side_by_side
from scripts.loop.runners import Command, Processes
from scripts.loop.schedule import Effects, Loop
from scripts.loop.settings import LoopSettings
from tests.support import RunningJob, finished_rows, parquet_bytes, results_folder

SMALL, LARGE = 334, 10_000
SHORT, LONG = 64, 256
CHUNK = 64
MODELS = 3
CAPPED_JOB = "benchmarks.capped_job"
_WEIGHTS = 16_100_000_000  # bytes, of the shape in bfloat16
_SHARED_UTILIZATION = 0.95
_FREED = 1 << 30  # bytes of GPU memory that are nobody's worry
_PATIENCE = 590


@dataclass(frozen=True)
class Bench:
    """Where everything lies. repeat: how often the job does what the plain script does once."""

    folder: Path
    source: Path
    repeat: int

    @cached_property
    def models(self) -> list[Path]:
        return [write_model(self.folder / "models" / f"shape-8b-{number}", number) for number in range(MODELS)]

    @cached_property
    def small(self) -> Path:
        return write_rows(self.folder / "small.jsonl", self.source, short_with_runaways(SHORT), SMALL)

    @cached_property
    def large(self) -> Path:
        return write_rows(self.folder / "large.jsonl", self.source, repeat(LONG), LARGE)

    @cached_property
    def brief(self) -> Path:
        return write_rows(self.folder / "brief.jsonl", self.source, repeat(SHORT), SMALL)

    def caches(self, side: str) -> dict[str, str]:
        """Folders for what a side's libraries keep."""
        top = self.folder / "caches" / side
        names = {"VLLM_CACHE_ROOT": "vllm", "TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
        return {**os.environ, **{name: str(top / folder) for name, folder in names.items()}}

    def settings(self, rows: Path, output: str, **more: object) -> dict[str, str]:
        """The environment of a job, without its model."""
        chosen = {
            "DATASET_ID": rows,
            "MAX_MODEL_LEN": MAX_MODEL_LEN,
            "OUTPUT_DIR": self.folder / output,
            "ENGINE_ARGS": json.dumps({"load_format": "dummy"}),
            "LOG_FORMAT": "json",
            "HUB_NAMESPACE": "",
            **more,
        }
        return self.caches("job") | {name: str(value) for name, value in chosen.items()}

    def plain(self, models: Sequence[Path], rows: Sequence[Path], *more: str) -> tuple[dict[str, Any], float]:
        """The plain script's report, and its seconds from the start of its process to its end."""
        output = self.folder / "plain"
        output.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "benchmarks.plain_script", *map(str, models)]
        command += ["--rows", *map(str, rows), "--output", str(output), *more]
        started = time.monotonic()
        ran = subprocess.run(command, cwd=ROOT, env=self.caches("plain"), capture_output=True, text=True, check=False)
        if ran.returncode:
            sys.exit(f"the plain script failed:\n{ran.stdout[-2000:]}{ran.stderr[-4000:]}")
        return json.loads(ran.stdout.splitlines()[-1]), time.monotonic() - started

    def job(self, name: str, rows: Path, **more: object) -> "Ran":
        """A whole job of the first model."""
        settings = self.settings(rows, name, MODEL_ID=self.models[0], **more)
        began = time.time()
        outcome = RunningJob(self.folder / "logs" / name, [sys.executable, "-m", CAPPED_JOB], settings).end(_PATIENCE)
        if outcome.code:
            sys.exit(f"{name} ended with {outcome.code}: {outcome.last}")
        (ready,) = outcome.of("engine_ready")
        until_ready = datetime.fromisoformat(ready["timestamp"]).timestamp() - began
        return Ran(until_ready, outcome.seconds, outcome.last["seconds_by_phase"], outcome.last["completion_tokens"])


@dataclass(frozen=True, slots=True)
class Ran:
    """A job that ended well. ready: seconds from the start of its process until its engine could answer."""

    ready: float
    seconds: float
    phases: Mapping[str, float]
    tokens: int

    @property
    def rate(self) -> float:
        return self.tokens / self.phases["generation"]


def start(bench: Bench) -> None:
    """Until the first token can be made: caches empty, and as the first start leaves them."""
    sides = {}
    for state in ("cold", "warm"):
        report, seconds = bench.plain(bench.models[:1], [bench.brief])
        (model,) = report["models"]
        sides["plain script", state] = report["import"] + model["start"], seconds, f"import {report['import']:.1f}"
    for state in ("cold", "warm"):
        ran = bench.job(f"start-{state}", bench.brief, **_again(state))
        sides["job", state] = ran.ready, ran.seconds, ", ".join(f"{name} {value:.1f}" for name, value in ran.phases.items())
    print(f"\n### start\n\n| side | caches | ready after s | whole run of {SMALL} x {SHORT} tokens s | seconds by phase |")
    print("|---|---|---:|---:|---|")
    for (side, state), (ready, seconds, parts) in sides.items():
        print(f"| {side} | {state} | {ready:.1f} | {seconds:.1f} | {parts} |")
    cold, warm, plain = (sides[key][0] for key in (("job", "cold"), ("job", "warm"), ("plain script", "cold")))
    print(
        f"\njob: warm / cold {warm / cold:.2f} (wanted: 0.5 at most); "
        f"cold, job / plain script {cold / plain:.2f} (wanted: below 1)"
    )


def _again(name: str) -> dict[str, int]:
    """Another identity, so that what was answered is answered again."""
    return {"SEED": sum(name.encode())}


def throughput(bench: Bench) -> None:
    """Generation alone, with both engines warm."""
    report, _ = bench.plain(bench.models[:1], [bench.small, bench.large], "--chunk", str(CHUNK), "--warm-up")
    at_once, chunks, large = report["models"][0]["passes"]
    print("\n### throughput\n\n| rows | side | seconds | tokens | tok/s | job / side |\n|---|---|---:|---:|---:|---:|")
    for rows, sides in (
        (bench.small, {"LLM.generate": at_once, f"chunks of {CHUNK}": chunks}),
        (bench.large, {"LLM.generate": large}),
    ):
        ran = bench.job(f"throughput-{rows.stem}", rows)
        name = f"{sides['LLM.generate']['rows']:,}"
        print(f"| {name} | job | {ran.phases['generation']:.1f} | {ran.tokens:,} | {ran.rate:,.0f} | |")
        for side, each in sides.items():
            rate = each["tokens"] / each["seconds"]
            print(
                f"| {name} | {side} | {each['seconds']:.1f} | {each['tokens']:,} | {rate:,.0f} | {ran.rate / rate:.3f} |",
                flush=True,
            )


class _Runner(Processes):
    """Processes of this interpreter, whose answers have the lengths that their rows name."""

    description = CAPPED_JOB

    def _command(self, module: str, environ: Mapping[str, str]) -> Command:
        return Command((sys.executable, "-m", CAPPED_JOB if module == "job" else module), environ, signal.SIGKILL)


class _NoStops:
    count = 0


def models(bench: Bench) -> None:
    """Three models after one another by the plain script, and at once by the loop, with and without MPS."""
    report, plain = bench.plain(bench.models, [bench.small])
    print("\n### models\n\n| side | seconds | of the plain script | each model |\n|---|---:|---:|---|")
    parts = [f"{each['start']:.0f} + {each['passes'][0]['seconds']:.0f} + {each['end']:.0f}" for each in report["models"]]
    print(
        f"| plain script | {plain:.1f} | | import {report['import']:.0f}, then start + generate + end: {', '.join(parts)} |",
        flush=True,
    )
    for number, mps in enumerate([*["auto"] * bench.repeat, "off"]):
        seconds, each = _at_once(bench, f"models-{number}", mps)
        print(f"| job, {MODELS} at once, MPS={mps} | {seconds:.1f} | {seconds / plain:.2f} | {'; '.join(each)} |", flush=True)


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


def bitwise(bench: Bench) -> None:
    """What REPRODUCIBILITY=bitwise costs for a model of this size."""
    print("\n### bitwise\n\n| level | caches | engine start s | generation s | tokens | tok/s |\n|---|---|---:|---:|---:|---:|")
    found: dict[str, Ran] = {}
    for level in ("seeded", "bitwise"):
        for state, rows in (("cold", bench.brief), ("warm", bench.small)):
            if level == "seeded" and state == "cold" and (bench.folder / "caches" / "job").exists():
                continue
            ran = found[level] = bench.job(f"{level}-{state}", rows, REPRODUCIBILITY=level, **_again("bitwise"))
            cells = [
                f"{ran.phases['engine_start']:.1f}",
                f"{ran.phases['generation']:.1f}",
                f"{ran.tokens:,}",
                f"{ran.rate:,.0f}",
            ]
            print(f"| {level} | {state} | {' | '.join(cells)} |", flush=True)
    starts = found["bitwise"].phases["engine_start"] / found["seeded"].phases["engine_start"]
    slower = found["seeded"].rate / found["bitwise"].rate
    print(f"\nbitwise / seeded, warm: engine start x {starts:.2f}, seconds a token x {slower:.2f}")


def signals(bench: Bench) -> None:
    """SIGTERM and SIGKILL while rows are answered: when is the memory free again, and are the bytes the same in the end?"""
    before = _used_memory()
    variables = {"REPRODUCIBILITY": "bitwise", "SHUTDOWN_GRACE_SECONDS": 2, **_again("signals")}
    bench.job("signals-none", bench.brief, **variables)
    expected = parquet_bytes(results_folder(bench.folder / "signals-none"))
    print("\n### signals\n\n| signal | rows safe | exit code | memory free again after s | bytes after resuming |")
    print("|---|---:|---:|---:|---|")
    for number in (signal.SIGTERM, signal.SIGKILL):
        output = bench.folder / f"signals-{number.name}"
        settings = bench.settings(bench.brief, output.name, MODEL_ID=bench.models[0], **variables, PROGRESS_SECONDS=0)
        job = RunningJob(bench.folder / "logs" / output.name, [sys.executable, "-m", CAPPED_JOB], settings)
        job.event("engine_ready", _PATIENCE)
        job.until(lambda output=output: len(finished_rows(output)) >= SMALL // 10 or None, _PATIENCE)  # type: ignore[misc]
        sent = time.monotonic()
        job.process.send_signal(number)
        while _used_memory() > before + _FREED and time.monotonic() < sent + 60:
            time.sleep(0.05)
        freed = time.monotonic() - sent
        code, safe = job.process.wait(60), len(finished_rows(output))
        bench.job(output.name, bench.brief, **variables)
        same = parquet_bytes(results_folder(output)) == expected
        print(
            f"| {number.name} | {safe} of {SMALL} | {code} | {freed:.1f} | {'the same' if same else 'DIFFERENT'} |", flush=True
        )


def _used_memory() -> int:
    """Bytes of the first GPU that are in use."""
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0]) << 20


def reproducibility(bench: Bench) -> None:
    """With real weights: which answers depend on their company, also when the job is killed and started again."""
    command = [sys.executable, "-m", "benchmarks.reproducibility", "--rows", str(SMALL), "--max-tokens", "512", "--kill"]
    print("\n### reproducibility\n", flush=True)
    subprocess.run([*command, "--source", str(bench.source)], cwd=ROOT, env=bench.caches("job"), check=False)


PARTS: Mapping[str, Callable[[Bench], None]] = {
    part.__name__: part for part in (start, throughput, models, bitwise, signals, reproducibility)
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--source", type=Path, default=ROOT / "data" / "instructions.jsonl", help="instructions, as .jsonl")
    parser.add_argument("--repeat", type=int, default=3, help="how often three models run at once (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where caches and results stay (default: a folder that goes)")
    chosen = parser.parse_args()
    if unknown := [part for part in chosen.parts if part not in PARTS]:
        parser.error(f"{unknown[0]} is none of {', '.join(PARTS)}")
    print(subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout.strip())
    with tempfile.TemporaryDirectory(prefix="job-gpu-") as name:
        bench = Bench((chosen.folder or Path(name)).absolute(), chosen.source, chosen.repeat)
        bench.folder.mkdir(parents=True, exist_ok=True)
        for part in chosen.parts or PARTS:
            PARTS[part](bench)
    return 0


if __name__ == "__main__":
    sys.exit(main())
