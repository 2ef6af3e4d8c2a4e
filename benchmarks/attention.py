"""Attention of REPRODUCIBILITY=bitwise, on a GPU: does an answer depend on what else is in the step, and how long does it take?

Heads are those of Llama 3.1 8B, in bfloat16, in vLLM's batch-invariant mode with Triton's attention. One answer's next token is
computed alone, among others, beside a prompt, and as the last one of its whole text, as when it is computed again after it had
to make room.

Run it from the root of the project on a GPU host: `python -m benchmarks.attention`. Exit code 1 where bits differ.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

os.environ["VLLM_BATCH_INVARIANT"] = "1"  # read as vLLM is imported

import torch
from vllm.v1.attention.ops import triton_unified_attention

from benchmarks.matmul import graph_milliseconds
from job.engine.bitwise_attention import use_wide_tiles

HEADS, KEY_HEADS, SIZE = 32, 8, 128
BLOCK = 16  # tokens
BLOCKS = 20_000
REPETITIONS = 20
# How many sequences, the tokens that each has already, and the new ones.
STEPS = ((1, 2000, 1), (10, 300, 1), (10, 2000, 1), (10, 4000, 1), (334, 200, 1), (1024, 300, 1), (40, 0, 200), (2, 0, 4000))
LENGTHS = (5, 127, 128, 129, 700, 3001)


@dataclass(frozen=True)
class Text:
    """One of a step: queries [new, HEADS, SIZE], of its last tokens, and the blocks that its keys and values are in."""

    queries: torch.Tensor
    blocks: torch.Tensor
    length: int


class Cache:
    """Keys and values of many tokens."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        shape = (BLOCKS, BLOCK, KEY_HEADS, SIZE)
        self._keys, self._values = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        self._next = 0

    def sequence(self, before: int, new: int) -> Text:
        """Whose blocks no other one of the same step has, as long as there are enough."""
        length = before + new
        count = -(-length // BLOCK)
        blocks = torch.arange(self._next, self._next + count, device="cuda", dtype=torch.int32) % BLOCKS
        self._next += count
        return Text(torch.randn((new, HEADS, SIZE), device="cuda", dtype=torch.bfloat16), blocks, length)

    def step(self, sequences: Sequence[Text]) -> "Step":
        return Step(self._keys, self._values, sequences)


class Step:
    def __init__(self, keys: torch.Tensor, values: torch.Tensor, sequences: Sequence[Text]) -> None:
        new = [len(each.queries) for each in sequences]
        starts = torch.tensor([0, *new], device="cuda").cumsum(0).to(torch.int32)
        table = torch.nn.utils.rnn.pad_sequence([each.blocks for each in sequences], batch_first=True)
        queries = torch.cat([each.queries for each in sequences])
        self.outcome = torch.empty_like(queries)
        self._arguments = {
            "q": queries,
            "k": keys,
            "v": values,
            "out": self.outcome,
            "cu_seqlens_q": starts,
            "max_seqlen_q": max(new),
            "seqused_k": torch.tensor([each.length for each in sequences], device="cuda", dtype=torch.int32),
            "max_seqlen_k": max(each.length for each in sequences),
            "softmax_scale": SIZE**-0.5,
            "causal": True,
            "window_size": (-1, -1),
            "block_table": table,
            "softcap": 0,
            "q_descale": None,
            "k_descale": None,
            "v_descale": None,
        }

    def run(self) -> torch.Tensor:
        triton_unified_attention.unified_attention(**self._arguments)
        return self.outcome


def differing(cache: Cache) -> int:
    """How many of the answers have another outcome in other company."""
    count = 0
    for length in LENGTHS:
        whole = cache.sequence(0, length)
        last = Text(whole.queries[-1:], whole.blocks, length)
        others, prompt = [cache.sequence(number * 37, 1) for number in range(1, 70)], cache.sequence(0, 333)
        alone = cache.step([last]).run()[0]
        companies = {
            "others": cache.step([*others[:40], last, *others[40:]]).run()[40],
            "a prompt": cache.step([last, prompt]).run()[0],
            "its whole text": cache.step([prompt, whole]).run()[-1],
        }
        count += sum(not torch.equal(alone, outcome) for outcome in companies.values())
    return count


def milliseconds(step: Step) -> float:
    return graph_milliseconds(lambda: [step.run() for _ in range(REPETITIONS)], 2) / REPETITIONS


def main() -> int:
    cache = Cache()
    steps = [cache.step([cache.sequence(before, new) for _ in range(count)]) for count, before, new in STEPS]
    narrow = [milliseconds(step) for step in steps]
    use_wide_tiles()
    wide = [milliseconds(step) for step in steps]
    print("| sequences | tokens before | new ones | vLLM's tiles us | these us |\n|---:|---:|---:|---:|---:|")
    for (count, before, new), *times in zip(STEPS, narrow, wide, strict=True):
        print(f"| {count:,} | {before:,} | {new:,} | {' | '.join(f'{time * 1000:,.0f}' for time in times)} |")
    found = differing(cache)
    print(f"\nanswers that depend on their company: {found} of {3 * len(LENGTHS)}: {'MISSED' if found else 'kept'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
