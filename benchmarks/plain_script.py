"""What people write for this without the job: for each model an LLM, all rows at once, a parquet file, and the next model.

The last line of its output says in JSON how many seconds each part took. Run by benchmarks.gpu, in a process of its own.
"""

import argparse
import gc
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.shape import LENGTH_COLUMN, MAX_MODEL_LEN, SAMPLING

if TYPE_CHECKING:
    from vllm import LLM

_ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{}\n\n### Response:\n"
)


class Clock:
    """Seconds between one call and the next."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def lap(self) -> float:
        before, self._last = self._last, time.monotonic()
        return round(self._last - before, 3)


def passes(llm: "LLM", files: Sequence[Path], chunk: int | None, most: int | None = None) -> Iterator[dict[str, Any]]:
    """Every file's rows answered at once, and those of the first one in chunks too. most: rows of each file, None for all."""
    from vllm import SamplingParams

    clock = Clock()
    for number, file in enumerate(files):
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()][:most]
        prompts = [_ALPACA.format(row["instruction"]) for row in rows]
        params = [SamplingParams(**SAMPLING, max_tokens=row[LENGTH_COLUMN], seed=seed) for seed, row in enumerate(rows)]
        for size in [len(rows), *([chunk] if chunk and number == 0 else [])]:
            llm.reset_prefix_cache()
            clock.lap()
            outputs = []
            for first in range(0, len(rows), size):
                outputs += llm.generate(prompts[first : first + size], params[first : first + size], use_tqdm=False)
            answers = [output.outputs[0] for output in outputs]
            tokens = sum(len(answer.token_ids) for answer in answers)
            texts = [answer.text for answer in answers]
            yield {"rows": len(rows), "at_once": size, "seconds": clock.lap(), "tokens": tokens, "texts": texts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--rows", nargs="+", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--chunk", type=int, help="answer the first file's rows in chunks of so many, too")
    parser.add_argument("--warm-up", action="store_true", help="answer some rows before the clock starts")
    parser.add_argument("--engine", type=json.loads, default={}, help="more arguments for LLM, as a JSON object")
    chosen = parser.parse_args()
    clock = Clock()
    import pyarrow as pa
    import pyarrow.parquet as pq
    from vllm import LLM

    report: dict[str, Any] = {"import": clock.lap(), "models": []}
    for model in chosen.models:
        clock.lap()
        llm = LLM(str(model), max_model_len=MAX_MODEL_LEN, load_format="dummy", **chosen.engine)
        start, done = clock.lap(), []
        if chosen.warm_up:
            list(passes(llm, chosen.rows[:1], None, 8))
            clock.lap()
        for answered in passes(llm, chosen.rows, chosen.chunk):
            texts = answered.pop("texts")
            pq.write_table(pa.table({"answers": texts}), chosen.output / f"{model.name}.parquet")
            done.append(answered)
        clock.lap()
        del llm
        gc.collect()
        report["models"].append({"start": start, "passes": done, "end": clock.lap()})
    print(json.dumps(report))


if __name__ == "__main__":
    main()
