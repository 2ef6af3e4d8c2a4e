"""A wider tile for Triton's attention in vLLM's batch-invariant mode. For its workers only.

In that mode an answer's attention is the work of one program for each head of keys, which goes through all tokens before it, a
tile at a time: each tile waits for the one before. With 128 tokens a tile instead of 32, ten answers of 4,000 tokens take 0.6
of the time. Tiles begin at the same tokens whatever else is in the step, so answers still depend on nothing else:
benchmarks/RESULTS.md, section attention.
"""

from collections.abc import Callable
from typing import Any

_TILE = 128  # tokens
_STAGES = 2  # of loading: three, Triton's choice, cost more in steps of many answers
_WIDEST_HEAD = 256  # numbers of a head with which the tiles of keys and values fit into shared memory


class WideTiles:
    """In the place of vLLM's kernel, launched in the same way."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., object]:
        launch = self._kernel[grid]

        def launched(**arguments: Any) -> object:
            fits = arguments["HEAD_SIZE_PADDED"] <= _WIDEST_HEAD
            if fits and not arguments["IS_3D"] and not arguments["USE_TD"]:
                arguments |= {"TILE_SIZE": _TILE, "num_stages": _STAGES}
            return launch(**arguments)

        return launched


def use_wide_tiles() -> None:
    """From here on, in this process."""
    from vllm.v1.attention.ops import triton_unified_attention

    triton_unified_attention.kernel_unified_attention = WideTiles(triton_unified_attention.kernel_unified_attention)
