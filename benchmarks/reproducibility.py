"""Which answers depend on what else is answered at the same time? For both levels of REPRODUCIBILITY, and what each costs.

All rows are answered at once first. Then they are answered again in other company: once more, in reverse, half of them,
shuffled with 40 in flight, and some of them one at a time. What is counted is how many answers differ from those of the first
time. Each level has an engine of its own, in a process of its own, fed as job.pipeline feeds it; between passes its prefix
cache is emptied. With `--kill`, the job itself is killed as a third of its rows are finished and started again, and its parquet
file compared with that of a job left alone.

The same bytes may be the same noise. So the first characters of all answers are compared with those of an engine without
graphs and without compilation (`ENFORCE_EAGER=true`): rounding lets most of them stand.

The embedded model on the embedded dataset, or what the environment names (MODEL_ID, DATASET_ID ...), on the GPU where there is
one: `python -m benchmarks.reproducibility --rows 334 --max-tokens 512 --kill`. Exit code 1 where an answer of the level
`bitwise` differs, or where fewer than half of the answers begin as those of the eager engine.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.scale import ROOT
from job import generation, hub, logs, prompts
from job.engine.vllm import VllmBackend
from job.main import LIBRARY_DEFAULTS, QUIET_DEFAULTS
from job.plan import make_plan
from job.protocols import Engine
from job.records import Prompt, ResultRow
from job.settings import Settings
from job.shutdown import StopSignal
from scripts.environment import layered, read
from tests.support import RunningJob, finished_rows, parquet_bytes, results_folder
from tests.wrapped import WrappedEngine

LEVELS = ("seeded", "bitwise")
EAGER = {"ENFORCE_EAGER": "true"}
_BEGINNING = 20  # characters
IN_FLIGHT = 40
PASSES = ("again", "reversed", "half", f"{IN_FLIGHT} in flight, shuffled", "one at a time")
SAMPLING = {"TEMPERATURE": "0.8", "TOP_P": "0.95", "MIN_P": "0.05", "SEED": "1"}

Answers = Mapping[int, tuple[str | None, str]]


class Narrow(WrappedEngine):
    """An engine with fewer requests in flight."""

    def __init__(self, engine: Engine, window: int) -> None:
        super().__init__(engine)
        self.window = window


def environment(level: str, rows: Path, max_tokens: int) -> dict[str, str]:
    chosen = {"DATASET_ID": str(rows), "MAX_TOKENS": str(max_tokens), "REPRODUCIBILITY": level, "DATASET_SPLIT": "test"}
    embedded = read(ROOT / "scripts" / "embedded.env") | SAMPLING
    return layered(os.environ, {}, embedded) | chosen


def write_rows(path: Path, source: Path, rows: int) -> None:
    """So many rows, from the beginning again where the source has fewer: each has a seed of its own."""
    lines = [json.dumps({"instruction": json.loads(line)["instruction"]}) for line in source.read_text("utf-8").splitlines()]
    path.write_text("".join(f"{line}\n" for line in islice(cycle(lines), rows)), encoding="utf-8")


def answered(engine: Engine, rows: Sequence[Prompt], seed: int) -> tuple[Answers, int, float]:
    """The answers by position, their tokens, and the seconds."""
    found: list[ResultRow] = []
    started = time.monotonic()
    generation.generate(iter(rows), engine, seed=seed, num_samples=1, stop=StopSignal(0), on_row=found.append)
    seconds = time.monotonic() - started
    answers = {row.position: (row.completions[0].text, row.completions[0].finish_reason) for row in found}
    return answers, sum(row.completions[0].tokens for row in found), seconds


def run_level(environ: Mapping[str, str], alone: int, *, in_company: bool) -> dict[str, Any]:
    """The first pass at one level, in this process, and those in other company where that is asked for."""
    for name, value in (LIBRARY_DEFAULTS | QUIET_DEFAULTS).items():
        os.environ.setdefault(name, value)
    logs.configure("console", "WARNING", os.environ)
    settings = Settings.from_env(environ)
    plan = make_plan(settings, hub.connect(settings.hub, StopSignal(0)), VllmBackend)
    if not isinstance(plan.backend, VllmBackend):
        raise TypeError(f"not vLLM: {plan.backend}")
    made = prompts.prepare(
        plan.rows.select(plan.template.columns), plan.template, plan.backend.tokenizer(), settings.engine.max_model_len
    )
    rows = [prompt for prompt in made if not prompt.failure]
    shuffled = random.Random(1).sample(rows, len(rows))  # noqa: S311
    started = time.monotonic()
    with plan.backend.open(len(rows)) as engine:
        start_seconds = time.monotonic() - started
        seed = settings.sampling.seed
        first, tokens, first_seconds = answered(engine, rows, seed)
        passes = dict(zip(PASSES, (rows, rows[::-1], rows[: len(rows) // 2], shuffled, rows[:alone]), strict=True))
        windows = {PASSES[3]: IN_FLIGHT, PASSES[4]: 1}
        differing, seconds = {}, {}
        for name, chosen in passes.items() if in_company else ():
            engine._engine.reset_prefix_cache()  # noqa: SLF001 (nothing else of the job does)
            narrow = Narrow(engine, windows.get(name, engine.window))
            answers, _, seconds[name] = answered(narrow, chosen, seed)
            differing[name] = [sum(answers[row.position] != first[row.position] for row in chosen), len(chosen)]
        facts = dict(engine.facts)
    return {
        "beginnings": {position: (text or "")[:_BEGINNING] for position, (text, _) in first.items()},
        "start": start_seconds,
        "first": first_seconds,
        "seconds": seconds,
        "tokens": tokens,
        "differing": differing,
        "facts": facts,
    }


def run_child(environ: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """The same in a process of its own, with these settings."""
    command = [sys.executable, "-m", "benchmarks.reproducibility", "--child", *arguments]
    child = subprocess.run(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return found


def as_eager(found: Mapping[str, Any], eager: Mapping[str, str]) -> int:
    """How many answers begin as those of the eager engine."""
    return sum(beginning == eager[position] for position, beginning in found["beginnings"].items())


def killed_and_resumed(environ: Mapping[str, str], folder: Path) -> bool:
    """Whether a job that was killed and started again leaves the same bytes as one left alone."""
    logged = {"LOG_FORMAT": "json"}
    outputs = [folder / "alone", folder / "killed"]
    alone = RunningJob(folder / "log-alone", [sys.executable, "-m", "job"], {**environ, **logged, "OUTPUT_DIR": outputs[0]})
    rows = alone.end(580).last["rows"]
    for number in range(2):
        variables = {**environ, **logged, "OUTPUT_DIR": outputs[1]}
        job = RunningJob(folder / f"log-{number}", [sys.executable, "-m", "job"], variables)
        if number == 0:
            job.until(lambda: len(finished_rows(outputs[1])) >= rows // 3 or None, 580)
            job.process.send_signal(signal.SIGKILL)
        ended = job.end(580)
    print(f"killed with {rows - ended.last['generated_rows']} of {rows} rows finished, then resumed")
    one, other = (parquet_bytes(results_folder(output)) for output in outputs)
    return one == other


def show(found: Mapping[str, Mapping[str, Any]], eager: Mapping[str, str]) -> None:
    for level, each in found.items():
        print(f"{level}: {json.dumps(each['facts'])}")
    differ = " | ".join(f"differ: {name}" for name in PASSES)
    print(f"\n| level | engine start s | first pass s | again s | tok/s | begin as eager | {differ} |")
    print(f"|---|{'---:|' * (5 + len(PASSES))}")
    for level, each in found.items():
        again = each["seconds"][PASSES[0]]
        times = [f"{each['start']:.1f}", f"{each['first']:.1f}", f"{again:.1f}", f"{each['tokens'] / again:.0f}"]
        differing = ["{} of {}".format(*each["differing"][name]) for name in PASSES]
        print(f"| {' | '.join([level, *times, f'{as_eager(each, eager)} of {len(eager)}', *differing])} |")
    if set(LEVELS) <= found.keys():
        seeded, bitwise = (found[level] for level in LEVELS)
        ratios = [bitwise["start"] / seeded["start"], seeded["tokens"] / bitwise["tokens"]]
        ratios[1] *= bitwise["seconds"][PASSES[0]] / seeded["seconds"][PASSES[0]]
        print(f"\nbitwise / seeded: engine start x {ratios[0]:.2f}, seconds a token x {ratios[1]:.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=24, help="how many (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=64, help="longest answer, in tokens (default: %(default)s)")
    parser.add_argument("--alone", type=int, default=24, help="rows that are answered one at a time (default: %(default)s)")
    parser.add_argument("--source", type=Path, default=ROOT / "data" / "instructions.jsonl", help="instructions, as .jsonl")
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--kill", action="store_true", help="kill and resume the job itself, at the level bitwise")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--in-company", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        print(json.dumps(run_level(os.environ, chosen.alone, in_company=chosen.in_company)))
        return 0
    with tempfile.TemporaryDirectory(prefix="job-reproducibility-") as name:
        folder = Path(name)
        write_rows(folder / "test.jsonl", chosen.source, chosen.rows)
        levels = {level: environment(level, folder / "test.jsonl", chosen.max_tokens) for level in LEVELS}
        eager = run_child(levels["seeded"] | EAGER)["beginnings"]
        found = {level: run_child(levels[level], "--in-company", "--alone", str(chosen.alone)) for level in chosen.levels}
        show(found, eager)
        same = not chosen.kill or killed_and_resumed(levels["bitwise"], folder)
    right = all(as_eager(each, eager) * 2 > len(eager) for each in found.values())
    kept = same and not any(differing for differing, _ in found.get("bitwise", {"differing": {}})["differing"].values())
    print(f"\nbitwise, 0 answers differ: {'kept' if kept else 'MISSED'}; most begin as eager: {'kept' if right else 'MISSED'}")
    return 0 if kept and right else 1


if __name__ == "__main__":
    sys.exit(main())
