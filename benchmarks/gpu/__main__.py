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
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu import run_batch
from benchmarks.gpu.bench import CAPPED_JOB, PATIENCE, SHORT, SMALL, Bench, Ran
from benchmarks.gpu.models import models
from benchmarks.scale import ROOT
from scripts.loop import gpus
from tests.support import RunningJob, finished_rows, parquet_bytes, results_folder

CHUNK = 64
FACTS = ("dtype", "quantization", "kv_cache_dtype", "tensor_parallel_size", "gpus")
_FREED = 1 << 30  # bytes of GPU memory that are nobody's worry


def start(bench: Bench) -> None:
    """Until the first token can be made: caches empty, and as the first start leaves them."""
    bench, sides = bench.apart("start"), {}
    for state in ("cold", "warm"):
        report, seconds = bench.plain(bench.models[:1], [bench.brief])
        (model,) = report["models"]
        sides["plain script", state] = report["import"] + model["start"], seconds, f"import {report['import']:.1f}"
    for state in ("cold", "warm"):
        ran = bench.job(f"start-{state}", bench.brief, **_again(state))
        sides["job", state] = ran.ready, ran.seconds, ran.by_phase
    print(f"\n### start\n\n| side | caches | ready after s | whole run of {SMALL} x {SHORT} tokens s | seconds by phase |")
    print("|---|---|---:|---:|---|")
    for (side, state), (ready, seconds, parts) in sides.items():
        print(f"| {side} | {state} | {ready:.1f} | {seconds:.1f} | {parts} |")
    cold, warm, plain = (sides[key][0] for key in (("job", "cold"), ("job", "warm"), ("plain script", "cold")))
    print(
        f"\njob: warm / cold {warm / cold:.2f} (wanted: 0.5 at most); "
        f"cold, job / plain script {cold / plain:.2f} (wanted: below 1)"
    )


def _again(*names: str) -> dict[str, int]:
    """Another identity, so that what was answered is answered again."""
    return {"SEED": sum("".join(names).encode())}


def throughput(bench: Bench) -> None:
    """Generation alone, with both engines warm, against all rows at once."""
    files = bench.small, bench.large
    report, _ = bench.plain(bench.models[:1], files, "--warm-up")
    _head("throughput")
    for rows, at_once in zip(files, report["models"][0]["passes"], strict=True):
        _compare(bench, rows, {"LLM.generate": at_once})


def chunks(bench: Bench) -> None:
    """The same against chunks, each of which waits for its longest answer."""
    report, _ = bench.plain(bench.models[:1], [bench.small], "--chunk", str(CHUNK), "--warm-up")
    at_once, in_chunks = report["models"][0]["passes"]
    _head("chunks")
    _compare(bench, bench.small, {"LLM.generate": at_once, f"chunks of {CHUNK}": in_chunks})


def _head(name: str) -> None:
    print(f"\n### {name}\n\n| rows | side | seconds | tokens | tok/s | job / side |\n|---|---|---:|---:|---:|---:|")


def _compare(bench: Bench, rows: Path, sides: Mapping[str, Mapping[str, Any]]) -> None:
    """The job on these rows, beside what the other sides took for them."""
    ran = bench.job(f"throughput-{rows.stem}", rows, **_again(*sides))
    count = f"{next(iter(sides.values()))['rows']:,}"
    print(f"| {count} | job | {ran.phases['generation']:.1f} | {ran.tokens:,} | {ran.rate:,.0f} | |")
    for side, each in sides.items():
        rate = each["tokens"] / each["seconds"]
        print(
            f"| {count} | {side} | {each['seconds']:.1f} | {each['tokens']:,} | {rate:,.0f} | {ran.rate / rate:.3f} |",
            flush=True,
        )


def formats(bench: Bench) -> None:
    """Number formats, and two GPUs where there are two: that the engine takes them, and what run.json then says of them."""
    chosen: list[dict[str, object]] = [{"DTYPE": "float16"}, {"QUANTIZATION": "fp8", "KV_CACHE_DTYPE": "fp8"}]
    if len(gpus.found_gpus(None)) > 1:
        chosen.append({"TENSOR_PARALLEL_SIZE": 2})
    print(f"\n### formats\n\n| settings | engine start s | tok/s | {' | '.join(FACTS)} |\n|---|---:|---:|{'---|' * len(FACTS)}")
    for number, settings in enumerate(chosen):
        ran = bench.job(f"formats-{number}", bench.brief, **settings)
        facts = json.loads((results_folder(bench.folder / f"formats-{number}") / "run.json").read_text("utf-8"))["engine"]
        said = " ".join(f"{name}={value}" for name, value in settings.items())
        cells = [f"{ran.phases['engine_start']:.1f}", f"{ran.rate:,.0f}", *(str(facts[name]) for name in FACTS)]
        print(f"| `{said}` | {' | '.join(cells)} |", flush=True)


def batch(bench: Bench) -> None:
    """Whole processes, caches warm: the job, and `vllm run-batch` with the same instructions as chats."""
    bench.job("batch-before", bench.brief, PROMPT_TEMPLATE="chat")
    run_batch.run(bench, bench.brief)
    sides = {"vllm run-batch": run_batch.run(bench, bench.small)}
    ran = bench.job("batch", bench.small, PROMPT_TEMPLATE="chat")
    sides["job"] = ran.seconds, ran.tokens
    print("\n### batch\n\n| side | whole process s | tokens |\n|---|---:|---:|")
    for side, (seconds, tokens) in sides.items():
        print(f"| {side} | {seconds:.1f} | {tokens:,} |")
    print(f"\njob / vllm run-batch {sides['job'][0] / sides['vllm run-batch'][0]:.2f}", flush=True)


def bitwise(bench: Bench) -> None:
    """What REPRODUCIBILITY=bitwise costs for a model of this size. Ready: as in `start`."""
    bench = bench.apart("bitwise")
    print("\n### bitwise\n\n| level | caches | ready after s | engine start s | generation s | tokens | tok/s |")
    print("|---|---|---:|---:|---:|---:|---:|")
    found: dict[str, Ran] = {}
    for level in ("seeded", "bitwise"):
        for state, rows in (("cold", bench.brief), ("warm", bench.small)):
            ran = found[level] = bench.job(f"{level}-{state}", rows, REPRODUCIBILITY=level)
            times = [ran.ready, ran.phases["engine_start"], ran.phases["generation"]]
            cells = [*(f"{time:.1f}" for time in times), f"{ran.tokens:,}", f"{ran.rate:,.0f}"]
            print(f"| {level} | {state} | {' | '.join(cells)} |", flush=True)
            print(f"{level}, {state}: {ran.by_phase}", file=sys.stderr)
    starts = found["bitwise"].phases["engine_start"] / found["seeded"].phases["engine_start"]
    slower = found["seeded"].rate / found["bitwise"].rate
    print(f"\nbitwise / seeded, warm: engine start x {starts:.2f}, seconds a token x {slower:.2f}")


def signals(bench: Bench) -> None:
    """SIGTERM and SIGKILL while rows are answered: when is the memory free again, and are the bytes the same in the end?"""
    before = _used_memory()
    variables = {"REPRODUCIBILITY": "bitwise", "SHUTDOWN_GRACE_SECONDS": 2, **_again("signals")}
    bench.job("signals-none", bench.spread, **variables)
    expected = parquet_bytes(results_folder(bench.folder / "signals-none"))
    print("\n### signals\n\n| signal | rows safe | exit code | memory free again after s | bytes after resuming |")
    print("|---|---:|---:|---:|---|")
    for number in (signal.SIGTERM, signal.SIGKILL):
        output = bench.folder / f"signals-{number.name}"
        settings = bench.settings(bench.spread, output.name, MODEL_ID=bench.models[0], **variables, PROGRESS_SECONDS=0)
        job = RunningJob(bench.folder / "logs" / output.name, [sys.executable, "-m", CAPPED_JOB], settings)
        job.event("engine_ready", PATIENCE)
        job.until(lambda output=output: len(finished_rows(output)) >= SMALL // 10 or None, PATIENCE)  # type: ignore[misc]
        sent = time.monotonic()
        job.process.send_signal(number)
        while _used_memory() > before + _FREED and time.monotonic() < sent + 60:
            time.sleep(0.05)
        freed = time.monotonic() - sent
        code, safe = job.process.wait(60), len(finished_rows(output))
        bench.job(output.name, bench.spread, **variables)
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
    part.__name__: part for part in (start, throughput, chunks, batch, models, bitwise, signals, formats, reproducibility)
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
