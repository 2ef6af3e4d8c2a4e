"""A model of Llama 3.1 8B's shape and size without its weights, and a dataset whose rows have answers of known lengths.

Weights that are not there are made up by vLLM (`load_format=dummy`): they take the room and the time of real ones, and answer
with noise that never ends. So each row says in a column of its own how many tokens its answer is to have. The tokenizer is that
of the embedded model, with made-up words up to the size of Llama's vocabulary.
"""

import json
import shutil
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from benchmarks.scale import ROOT

EMBEDDED = ROOT / ".cache" / "models" / "SmolLM2-135M-Instruct"
LENGTH_COLUMN = "answer_tokens"
MAX_MODEL_LEN = 4096
SAMPLING = {"temperature": 0.8, "top_p": 0.95, "min_p": 0.05}  # the job's own defaults, for the other sides
RUNAWAY = MAX_MODEL_LEN  # as long as there is room
_EVERY = 33  # a row in so many is a runaway: 3 %
_VOCABULARY = 128_256
_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": _VOCABULARY,
    "max_position_embeddings": 131_072,
    "rope_theta": 500_000.0,
    "rms_norm_eps": 1e-5,
    "dtype": "bfloat16",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}


def write_model(folder: Path, number: int) -> Path:
    """Such a model, different from those of other numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer_config.json", "generation_config.json", "chat_template.jinja"):
        shutil.copy(EMBEDDED / name, folder / name)
    tokenizer: dict[str, Any] = json.loads((EMBEDDED / "tokenizer.json").read_text("utf-8"))
    known = len(tokenizer["model"]["vocab"])
    tokenizer["model"]["vocab"] |= {f"Ġword{token}": token for token in range(known, _VOCABULARY)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(_CONFIG), encoding="utf-8")
    save_file({"made_up": np.array([number])}, folder / "model.safetensors")
    return folder


def write_rows(path: Path, source: Path, lengths: Iterator[int], rows: int) -> Path:
    """Instructions, from the beginning again where the source has fewer, each with the length of its answer."""
    lines = cycle(json.loads(line)["instruction"] for line in source.read_text("utf-8").splitlines())
    made = ({"instruction": text, LENGTH_COLUMN: length} for text, length in zip(islice(lines, rows), lengths, strict=False))
    path.write_text("".join(f"{json.dumps(row)}\n" for row in made), encoding="utf-8")
    return path


def short_with_runaways(tokens: int) -> Iterator[int]:
    """Short answers, and one in 33 that ends only where there is no more room."""
    return cycle([*[tokens] * (_EVERY - 1), RUNAWAY])


def read_lengths(path: Path) -> list[int]:
    return [json.loads(line)[LENGTH_COLUMN] for line in path.read_text("utf-8").splitlines()]
