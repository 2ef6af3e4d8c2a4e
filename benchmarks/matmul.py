"""Tiles of REPRODUCIBILITY=bitwise against vLLM's own, on a GPU: are the bits the same for every number of rows, and how long
do they take?

Shapes are those of Llama 3.1 8B's weights, in bfloat16. A row's outcome among any number of rows, with these tiles, is compared
with that among all, with vLLM's. What is timed is a graph, as in the engine, over more weights than the GPU's cache holds.

Run it from the root of the project on a GPU host: `python -m benchmarks.matmul`. Exit code 1 where a row's bits differ.
"""

import sys
from collections.abc import Callable
from functools import partial
from math import prod

import torch
from vllm.model_executor.determinism import batch_invariant

from job.engine.bitwise_matmul import use_tiles

HEAD = "head"
SHAPES = {"qkv": (6144, 4096), "o": (4096, 4096), "gate and up": (28672, 4096), "down": (4096, 14336), HEAD: (128_256, 4096)}
LAYERS = 32
ROWS = (1, 10, 16, 17, 32, 64, 65, 128, 334, 512, 1024, 2048)
REPETITIONS = 5
CACHE = 400_000_000  # bytes: several times what any GPU keeps of the weights between two products


Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Shapes:
    """Weights, and as many inputs as there may be at once."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        make = partial(torch.randn, device="cuda", dtype=torch.bfloat16)
        self.inputs = {name: make((max(ROWS), shape[1])) for name, shape in SHAPES.items()}
        self.weights = {
            name: [make(shape) * 0.02 for _ in range(1 + CACHE // (2 * prod(shape)))] for name, shape in SHAPES.items()
        }

    def product(self, product: Product, name: str, rows: int) -> torch.Tensor:
        return product(self.inputs[name][:rows], self.weights[name][0])

    def step_milliseconds(self, product: Product, rows: int) -> float:
        """All products of a step of the model."""
        times = {name: self._milliseconds(product, name, rows) for name in SHAPES}
        return LAYERS * sum(times[name] for name in SHAPES if name != HEAD) + times[HEAD]

    def _milliseconds(self, product: Product, name: str, rows: int) -> float:
        inputs, weights = self.inputs[name][:rows], self.weights[name]
        return graph_milliseconds(lambda: [product(inputs, each) for each in weights], REPETITIONS) / len(weights)


def graph_milliseconds(work: Callable[[], object], repetitions: int) -> float:
    """What the GPU takes for it, without the launches of its kernels."""
    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    graph.replay()
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record()
    for _ in range(repetitions):
        graph.replay()
    ended.record()
    torch.cuda.synchronize()
    return float(began.elapsed_time(ended)) / repetitions


def main() -> int:
    shapes, invariant = Shapes(), batch_invariant.linear_batch_invariant
    expected = {name: shapes.product(invariant, name, max(ROWS)) for name in SHAPES}
    theirs = {rows: shapes.step_milliseconds(invariant, rows) for rows in ROWS}
    plain = {rows: shapes.step_milliseconds(torch.nn.functional.linear, rows) for rows in ROWS}
    use_tiles()
    print("| rows | ms a step: cuBLAS | vLLM's tiles | these tiles | rows whose bits differ |\n|---:|---:|---:|---:|---:|")
    differing = 0
    for rows in ROWS:
        wrong = sum(int((shapes.product(invariant, n, rows) != expected[n][:rows]).any(1).sum()) for n in SHAPES)
        times = (plain[rows], theirs[rows], shapes.step_milliseconds(invariant, rows))
        print(f"| {rows} | {' | '.join(f'{time:.1f}' for time in times)} | {wrong} |", flush=True)
        differing += wrong
    print(f"\nthe same bits: {'MISSED' if differing else 'kept'}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
