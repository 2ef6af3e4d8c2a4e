"""A wider tile for Triton's attention in vLLM's batch-invariant mode. For its workers only.

In that mode an answer's attention is the work of one program for each head of keys, which goes through all tokens before it, a
tile at a time: each tile waits for the one before. With 128 tokens a tile instead of 32, ten answers of 4,000 tokens take 0.6
of the time. Tiles begin at the same tokens whatever else is in the step, so answers still depend on nothing else:
benchmarks/RESULTS.md, section attention.
"""

from collections.abc import Callable, Mapping
from typing import Any

_TILE = 128  # tokens
_STAGES = 2  # of loading: three, Triton's choice, cost more in steps of many answers
# Of a head, with which two stages of keys and values fit into shared memory; and where they are also masked by a window, which
# takes registers.
_MOST_BYTES, _MOST_BYTES_WINDOWED = 512, 256
_MOST_ROWS = 32  # queries of a program: more are multiplied in another way, which takes more shared memory


class WideTiles:
    """In the place of vLLM's kernel, launched in the same way."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., object]:
        launch = self._kernel[grid]

        def launched(**arguments: Any) -> object:
            if _fits(arguments):
                arguments |= {"TILE_SIZE": _TILE, "num_stages": _STAGES}
            return launch(**arguments)

        return launched


def _fits(arguments: Mapping[str, Any]) -> bool:
    """Whether this model's attention may have the wide tile: nothing that tells one step from another decides."""
    head = arguments["HEAD_SIZE_PADDED"] * arguments["query_ptr"].element_size()
    most = _MOST_BYTES_WINDOWED if arguments["SLIDING_WINDOW"] > 0 else _MOST_BYTES
    return not arguments["IS_3D"] and not arguments["USE_TD"] and head <= most and arguments["BLOCK_M"] <= _MOST_ROWS


def use_wide_tiles() -> None:
    """From here on, in this process."""
    from vllm.v1.attention.ops import triton_unified_attention

    triton_unified_attention.kernel_unified_attention = WideTiles(triton_unified_attention.kernel_unified_attention)
