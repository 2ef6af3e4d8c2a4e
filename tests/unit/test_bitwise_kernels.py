"""How the kernels of REPRODUCIBILITY=bitwise are launched; what they answer is seen on a GPU: benchmarks/RESULTS.md."""

from dataclasses import dataclass
from typing import Any

import pytest

from job.engine.bitwise_attention import WideTiles
from job.engine.bitwise_matmul import Tile, tile

H200 = 132  # multiprocessors
SHARED_MEMORY = 227 * 1024  # bytes of one of them
QKV, OUT, GATE_UP, HEAD = 6144, 4096, 28672, 128_256


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        # The fastest of those measured for Llama 3.1 8B, or as fast as that.
        (10, QKV, (16, 64)),
        (10, OUT, (16, 32)),
        (10, GATE_UP, (16, 128)),
        (10, HEAD, (16, 128)),
        (24, QKV, (32, 64)),
        (24, OUT, (32, 32)),
        (40, OUT, (64, 64)),
        (40, GATE_UP, (64, 256)),
        (100, OUT, (64, 128)),
        (100, GATE_UP, (128, 256)),
        (200, QKV, (64, 256)),
        (334, QKV, (128, 256)),
        (512, OUT, (64, 256)),
        (1024, OUT, (128, 256)),
        (100_000, OUT, (128, 256)),
    ],
)
def test_tiles_are_as_wide_as_half_of_the_multiprocessors_allow(rows: int, columns: int, expected: tuple[int, int]) -> None:
    chosen = tile(rows, columns, H200)
    assert (chosen.rows, chosen.columns) == expected


@pytest.mark.parametrize("rows", [1, 16, 17, 32, 33, 64, 65, 10_000])
@pytest.mark.parametrize("columns", [1, 128, QKV, HEAD])
@pytest.mark.parametrize("multiprocessors", [1, 78, H200])
def test_every_tile_fits_into_shared_memory_with_all_its_stages(rows: int, columns: int, multiprocessors: int) -> None:
    chosen = tile(rows, columns, multiprocessors)
    assert (chosen.rows + chosen.columns) * chosen.depth * 2 * chosen.stages <= SHARED_MEMORY
    assert chosen.rows >= min(rows, 64), "else weights are read more than once"


def test_a_tile_is_told_in_the_kernels_words() -> None:
    config = Tile(16, 64, 128, 4, 6).config()
    assert {"BLOCK_SIZE_M": 16, "BLOCK_SIZE_N": 64, "BLOCK_SIZE_K": 128}.items() <= config.items()
    assert (config["num_warps"], config["num_stages"]) == (4, 6)


class Launches:
    """In the place of Triton's kernel: what it was launched with."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, dict[str, Any]]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return lambda **arguments: self.seen.append((grid, arguments))


@dataclass(frozen=True)
class Queries:
    """In the place of a tensor: the bytes of its numbers."""

    size: int

    def element_size(self) -> int:
        return self.size


@pytest.mark.parametrize(
    ("own", "wide"),
    [
        ({}, True),
        ({"HEAD_SIZE_PADDED": 256}, True),
        ({"HEAD_SIZE_PADDED": 512}, False),
        ({"query_ptr": Queries(4)}, True),
        ({"query_ptr": Queries(4), "HEAD_SIZE_PADDED": 256}, False),
        ({"SLIDING_WINDOW": 1024}, True),
        ({"SLIDING_WINDOW": 1024, "HEAD_SIZE_PADDED": 256}, False),
        ({"BLOCK_M": 64}, False),
        ({"IS_3D": True}, False),
        ({"USE_TD": True}, False),
    ],
)
def test_attention_gets_a_wider_tile_where_it_fits(own: dict[str, Any], *, wide: bool) -> None:
    usual = {"HEAD_SIZE_PADDED": 128, "SLIDING_WINDOW": 0, "BLOCK_M": 16, "IS_3D": False, "USE_TD": False}
    given = {"query_ptr": Queries(2), "TILE_SIZE": 32, "scale": 0.5, **usual, **own}
    kernel = Launches()
    WideTiles(kernel)[(3, 8)](**given)
    changed = {"TILE_SIZE": 128, "num_stages": 2} if wide else {}
    assert kernel.seen == [((3, 8), given | changed)]
