"""Tiles for vLLM's batch-invariant matrix products: the same sums in the same order, in less time. For its workers only.

vLLM 0.32 takes tiles of 128 rows and 128 columns for every shape of a weight that its table lacks, also where a step has ten
rows. A step of few rows is a matter of reading the weights, so most multiprocessors must have a tile, and each much on its way.
The bits do not depend on any of it, row by row: benchmarks/RESULTS.md, section matmul.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tile:
    """rows, columns: of the outcome; depth: how much of a sum is loaded at once; stages: how many loads are on their way."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int

    def config(self) -> Mapping[str, int]:
        """As vLLM's kernel takes it."""
        return {
            "BLOCK_SIZE_M": self.rows,
            "BLOCK_SIZE_N": self.columns,
            "BLOCK_SIZE_K": self.depth,
            "GROUP_SIZE_M": 8,
            "num_warps": self.warps,
            "num_stages": self.stages,
        }


# By the largest number of rows: tiles from the widest to the narrowest, as measured on an H200.
_FEW: Sequence[tuple[int, Sequence[Tile]]] = (
    (16, (Tile(16, 128, 64, 8, 6), Tile(16, 64, 128, 4, 6), Tile(16, 32, 128, 4, 6))),
    (32, (Tile(32, 128, 64, 4, 6), Tile(32, 64, 128, 4, 4), Tile(32, 32, 128, 4, 6))),
    (64, (Tile(64, 256, 64, 8, 4), Tile(64, 128, 64, 4, 6), Tile(64, 64, 128, 4, 6))),
)
_MANY = (Tile(128, 256, 64, 8, 3), Tile(64, 256, 64, 8, 4), Tile(64, 128, 128, 4, 4))


def tile(rows: int, columns: int, multiprocessors: int) -> Tile:
    """For an outcome of this size: the widest tile with which at least half of the multiprocessors have one."""
    fitting = next((tiles for most, tiles in _FEW if rows <= most), _MANY)
    enough = (each for each in fitting if -(-rows // each.rows) * -(-columns // each.columns) * 2 >= multiprocessors)
    return next(enough, fitting[-1])


def use_tiles() -> None:
    """From here on, in this process, for every shape that vLLM has no tiles of its own for. In bfloat16, as it was measured."""
    import torch
    from vllm.model_executor.determinism import batch_invariant
    from vllm.utils.platform_utils import num_compute_units

    theirs = batch_invariant._get_matmul_config  # noqa: SLF001 (what is replaced)

    def config(rows: int, columns: int, depth: int, dtype: torch.dtype, default: Mapping[str, int]) -> Mapping[str, int]:
        found: Mapping[str, int] = theirs(rows, columns, depth, dtype, default)
        if found is not default or dtype != torch.bfloat16:
            return found
        return tile(rows, columns, num_compute_units()).config()

    batch_invariant._get_matmul_config = config  # noqa: SLF001
