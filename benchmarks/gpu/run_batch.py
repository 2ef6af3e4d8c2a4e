"""`vllm run-batch`, vLLM's own answer to a file of requests, as a peer: a process that starts, answers and writes a file.

Its form: https://docs.vllm.ai/en/latest/examples/offline_inference/openai_batch.html. It takes chats only.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.bench import Bench
from benchmarks.scale import ROOT
from benchmarks.shape import LENGTH_COLUMN, MAX_MODEL_LEN, RUNAWAY, SAMPLING


def run(bench: Bench, rows: Path) -> tuple[float, int]:
    """Seconds of the whole process, and the tokens of its answers."""
    requests, answers = (bench.folder / f"{rows.stem}-{name}.jsonl" for name in ("requests", "answers"))
    write_requests(rows, requests, bench.models[0])
    command = [sys.executable, "-m", "vllm.entrypoints.launchers.run_batch", "-i", str(requests), "-o", str(answers)]
    command += ["--model", str(bench.models[0]), "--max-model-len", str(MAX_MODEL_LEN), "--load-format", "dummy"]
    started = time.monotonic()
    ran = subprocess.run(command, cwd=ROOT, env=bench.caches("plain"), capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if ran.returncode:
        sys.exit(f"vllm run-batch failed:\n{ran.stdout[-2000:]}{ran.stderr[-4000:]}")
    return seconds, tokens_of(answers)


def write_requests(rows: Path, requests: Path, model: Path) -> None:
    """The requests for a dataset of benchmarks.shape, with the job's usual sampling and a seed for each."""
    lines = []
    for number, line in enumerate(rows.read_text("utf-8").splitlines()):
        row = json.loads(line)
        body = {
            "model": str(model),
            "messages": [{"role": "user", "content": row["instruction"]}],
            **SAMPLING,
            "seed": number,
        }
        if row[LENGTH_COLUMN] < RUNAWAY:  # else as long as there is room
            body["max_tokens"] = row[LENGTH_COLUMN]
        lines.append(json.dumps({"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}))
    requests.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def tokens_of(answers: Path) -> int:
    """Tokens of all answers. Raises: KeyError, TypeError where one is an error."""
    found = (json.loads(line) for line in answers.read_text("utf-8").splitlines())
    return sum(each["response"]["body"]["usage"]["completion_tokens"] for each in found)
