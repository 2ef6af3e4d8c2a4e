"""Overhead of the job: its generation phase against a bare `vllm.LLM.generate` on the same rows, on the CPU.

Both sides use one and the same engine, the same token ids and the same sampling parameters with a seed for each row. The job's
side is what job.pipeline runs between `engine_ready` and the results: prompts from the spool on disk, the feed loop, progress,
and the journal, timed until its last row is synced to disk. The bare side gets its prompts and parameters ready-made. The two
take turns in going first, and the prefix cache is emptied before each, so that neither gains from the other; what counts is
the median of bare seconds / job seconds over the pairs. The answers of both sides, the job's as read back from its journal,
must be equal, and the job's own engine must schedule as `LLM` does where nothing is set.

"own CPU s" is the CPU time of this process, the engine's not counted: what a side costs beyond the model. "CPU bare/job"
counts the engine in. Other work on the machine makes seconds by the wall clock jump, and CPU time far less.

Run it from the root of the project, after `make setup`: `python -m benchmarks.overhead`. Exit code 1 where a check fails.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil  # type: ignore[import-untyped]
from dotenv import dotenv_values

from job import hub, logs, prompts
from job.engine.postmortem import Watch
from job.engine.vllm import VllmBackend
from job.engine.vllm_engine import VllmEngine
from job.generation import generate
from job.identity import row_seed
from job.journal import Journal
from job.main import LIBRARY_DEFAULTS, QUIET_DEFAULTS
from job.plan import Plan, make_plan
from job.progress import Progress
from job.records import Prompt
from job.settings import Settings
from job.shutdown import StopSignal
from job.spool import Spool

ROOT = Path(__file__).resolve().parent.parent
MIN_RATIO = 0.97  # job tokens per second over bare tokens per second
WARM_UP_ROWS = 8
SCHEDULER_FIELDS = ("max_num_seqs", "max_num_batched_tokens", "enable_chunked_prefill", "async_scheduling")

Answers = Mapping[int, str | None]


@dataclass(frozen=True, slots=True)
class Clocks:
    """Seconds: by the wall clock, CPU time of this process, CPU time of its children, which are the engine's."""

    wall: float
    own_cpu: float
    engine_cpu: float

    @classmethod
    def read(cls) -> Self:
        children = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
        return cls(time.monotonic(), time.process_time(), sum(times.user + times.system for times in children))

    def __sub__(self, earlier: Self) -> "Clocks":
        return Clocks(self.wall - earlier.wall, self.own_cpu - earlier.own_cpu, self.engine_cpu - earlier.engine_cpu)

    @property
    def all_cpu(self) -> float:
        return self.own_cpu + self.engine_cpu


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over all rows: what it took, its answers, and how many tokens they have."""

    took: Clocks
    answers: Answers
    tokens: int


Side = Callable[[Sequence[Prompt]], Pass]


class Bench:
    """Both sides around one engine."""

    def __init__(self, plan: Plan) -> None:
        from vllm import LLM

        if not isinstance(plan.backend, VllmBackend):
            raise TypeError(f"not vLLM: {plan.backend}")
        self._plan = plan
        engine = plan.settings.engine
        self._backend = plan.backend
        tokenizer = self._backend.tokenizer()
        rows = plan.rows.select(plan.template.columns)
        made = prompts.prepare(rows, plan.template, tokenizer, engine.max_model_len)
        self.prompts = [prompt for prompt in made if not prompt.failure]
        self._sampling = self._backend._sampling()  # noqa: SLF001 (the very ones that the job uses)
        self.llm = LLM(
            model=plan.model.name,
            dtype="float32",  # as REPRODUCIBILITY=bitwise has it on a CPU
            max_model_len=engine.max_model_len,
            kv_cache_memory_bytes=engine.kv_cache_memory_bytes,
            enforce_eager=True,
            enable_chunked_prefill=False,  # as in job.engine.vllm: seeded sampling dies with it on a CPU
            use_tqdm_on_load=False,
        )
        self._engine = VllmEngine(self.llm.llm_engine, self._sampling, self._backend.facts, Watch())

    def differing_settings(self) -> dict[str, tuple[object, object]]:
        """What the job's own engine would schedule otherwise than `LLM` does, as (job, bare): one engine would hide it."""
        ours = self._backend._engine_config(Path(self._plan.model.name), len(self.prompts)).scheduler_config  # noqa: SLF001 (opening it would load the model twice)
        theirs = self.llm.llm_engine.vllm_config.scheduler_config
        pairs = {name: (getattr(ours, name), getattr(theirs, name)) for name in SCHEDULER_FIELDS}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def job(self, rows: Sequence[Prompt]) -> Pass:
        """As job.pipeline does it, from the spool to the synced journal."""
        self.llm.reset_prefix_cache()
        with tempfile.TemporaryDirectory(prefix="job-overhead-") as name:
            folder = Path(name)
            with Journal(folder, self._plan.identity) as journal, Spool(folder) as spool:
                spool.write(rows)
                started = Clocks.read()
                progress = Progress(len(rows), 0, 10, None, load=lambda: self._engine.load)
                with progress, journal.writer() as writer, progress.told():

                    def on_row(row: Any) -> None:
                        writer.append(row)
                        progress.add(row)

                    answerable = (prompt for prompt in spool if not prompt.failure)
                    seed = self._plan.settings.sampling.seed
                    generate(answerable, self._engine, seed=seed, num_samples=1, stop=StopSignal(0), on_row=on_row)
                took = Clocks.read() - started
                found = journal.rows(range(self._plan.rows.rows))
                answers = {row.position: row.completions[0].text for row in found}
                return Pass(took, answers, progress.tokens)

    def bare(self, rows: Sequence[Prompt]) -> Pass:
        from vllm.inputs import tokens_input
        from vllm.sampling_params import SamplingParams

        self.llm.reset_prefix_cache()
        seed = self._plan.settings.sampling.seed
        inputs = [tokens_input(list(prompt.token_ids)) for prompt in rows]
        params = [SamplingParams(**self._sampling, seed=row_seed(seed, prompt.position, 0)) for prompt in rows]
        started = Clocks.read()
        outputs = self.llm.generate(inputs, params, use_tqdm=False)
        took = Clocks.read() - started
        answers = {prompt.position: output.outputs[0].text for prompt, output in zip(rows, outputs, strict=True)}
        return Pass(took, answers, sum(len(output.outputs[0].token_ids) for output in outputs))


def settings_for(dataset: str, max_tokens: int) -> Settings:
    """The embedded default of `make generate`, but drawing tokens instead of taking the likeliest: seeds cost time too."""
    embedded = {name: value or "" for name, value in dotenv_values(ROOT / "scripts" / "embedded.env").items()}
    chosen = {"DATASET_ID": dataset, "MAX_TOKENS": str(max_tokens), "TEMPERATURE": "0.8", "SEED": "1"}
    return Settings.from_env(embedded | chosen)


def measure(bench: Bench, repetitions: int) -> list[tuple[Pass, Pass]]:
    """Pairs of (job, bare), after a warm-up; each line is printed as it is known."""
    sides: dict[str, Side] = {"job": bench.job, "bare": bench.bare}
    for side in sides.values():
        side(bench.prompts[:WARM_UP_ROWS])
    print(
        "| pair | first | job s | bare s | bare/job | job tok/s | bare tok/s | job own CPU s | bare own CPU s | CPU bare/job |"
    )
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    pairs = []
    for number in range(1, repetitions + 1):
        order = sorted(sides, reverse=bool(number % 2))  # the job goes first in odd pairs
        timed = {name: sides[name](bench.prompts) for name in order}
        job, bare = timed["job"], timed["bare"]
        pairs.append((job, bare))
        times = f"{job.took.wall:.2f} | {bare.took.wall:.2f} | {bare.took.wall / job.took.wall:.3f}"
        rates = f"{job.tokens / job.took.wall:.0f} | {bare.tokens / bare.took.wall:.0f}"
        cpu = f"{job.took.own_cpu:.2f} | {bare.took.own_cpu:.2f} | {bare.took.all_cpu / job.took.all_cpu:.3f}"
        print(f"| {number} | {order[0]} | {times} | {rates} | {cpu} |", flush=True)
    return pairs


def verdict(pairs: Sequence[tuple[Pass, Pass]], differing: Mapping[str, tuple[object, object]]) -> bool:
    """Print what was found; whether all of it is as wanted."""
    ratio = statistics.median(bare.took.wall / job.took.wall for job, bare in pairs)
    cpu_ratio = statistics.median(bare.took.all_cpu / job.took.all_cpu for job, bare in pairs)
    more_cpu = statistics.median(job.took.own_cpu - bare.took.own_cpu for job, bare in pairs)
    fastest = min(job.took.wall for job, _ in pairs)
    first = pairs[0][0]
    same = sum(each.answers == first.answers for pair in pairs for each in pair)
    print(f"\nmedian bare/job {ratio:.3f} (>= {MIN_RATIO}): {'kept' if ratio >= MIN_RATIO else 'MISSED'}")
    print(f"median CPU bare/job {cpu_ratio:.3f}")
    print(f"own CPU: the job takes {more_cpu:.3f} s more, {more_cpu / fastest:.2%} of its fastest pass, {fastest:.2f} s")
    print(f"answers: {same} of {2 * len(pairs)} passes gave the same {len(first.answers)} answers, {first.tokens} tokens")
    for name, (ours, theirs) in differing.items():
        print(f"DIFFERS: {name} is {ours} in the job's own engine, {theirs} in LLM's")
    return ratio >= MIN_RATIO and same == 2 * len(pairs) and not differing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", default="data/instructions.jsonl", help="a .jsonl file with instructions")
    parser.add_argument("--max-tokens", type=int, default=64, help="longest answer, in tokens (64)")
    parser.add_argument("--repetitions", type=int, default=5, help="pairs of passes (5)")
    arguments = parser.parse_args()
    for name, value in (LIBRARY_DEFAULTS | QUIET_DEFAULTS).items():
        os.environ.setdefault(name, value)
    logs.configure("console", "WARNING", os.environ)
    settings = settings_for(arguments.dataset, arguments.max_tokens)
    bench = Bench(make_plan(settings, hub.connect(settings.hub, StopSignal(0)), VllmBackend))
    try:
        print(f"{len(bench.prompts)} rows of {arguments.dataset}, up to {arguments.max_tokens} tokens each\n")
        kept = verdict(measure(bench, arguments.repetitions), bench.differing_settings())
    finally:
        bench.llm.llm_engine.engine_core.shutdown()
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
