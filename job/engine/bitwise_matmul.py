"""Tiles for vLLM's batch-invariant matrix products: the same sums in the same order, in less time. For its workers only.

The order of a sum follows from how it is cut along its length (block_k), which is the same for all numbers of rows. vLLM 0.32
takes tiles of 128 rows for every shape of a weight that its table lacks, also where a step has ten rows. On Hopper these took
half the time for the shapes of Llama 3.1 8B and gave the same bits, row by row: benchmarks/RESULTS.md, section matmul.
"""

from vllm.model_executor.determinism import batch_invariant_configs
from vllm.model_executor.determinism.batch_invariant_configs import _MatmulMConfig, _MatmulShapeConfig
from vllm.platforms import current_platform

_HOPPER = 9
# By the largest number of rows: rows and columns of a tile, warps, stages.
TILES = _MatmulShapeConfig(
    block_k=64,
    m_buckets=(
        (16, _MatmulMConfig(16, 64, 4, 6)),
        (32, _MatmulMConfig(32, 128, 4, 4)),
        (64, _MatmulMConfig(64, 64, 4, 5)),
        (512, _MatmulMConfig(128, 128, 8, 4)),
        (2048, _MatmulMConfig(128, 256, 8, 3)),
    ),
)


class _EveryShape(dict[tuple[int, int], _MatmulShapeConfig]):
    """vLLM's table, and these tiles for what is not in it."""

    def get(self, shape: tuple[int, int], default: _MatmulShapeConfig = TILES) -> _MatmulShapeConfig:
        return super().get(shape, default)


def use_tiles() -> None:
    """Where they were measured, from here on, in this process."""
    capability = current_platform.get_device_capability()
    if capability is not None and capability.major == _HOPPER:
        batch_invariant_configs.resolve_tuned_matmul_configs()
        known = batch_invariant_configs._TUNED_MATMUL_CONFIGS_FOR_DEVICE  # noqa: SLF001 (its only entrance)
        batch_invariant_configs._TUNED_MATMUL_CONFIGS_FOR_DEVICE = _EveryShape(known or {})  # noqa: SLF001
