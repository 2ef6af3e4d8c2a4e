"""Memory and handles do not grow with the rows. `make soak` is the same for twenty million of them."""

from pathlib import Path

import pytest

from tests.soak import MEGABYTE, Sample, Soak, soak, violations

ROWS = 30_000


def sample(number: int, *, resident: int = 100 * MEGABYTE, handles: int = 8) -> Sample:
    return Sample(float(number), resident, handles, threads=4, processes=1, temporary=0)


@pytest.mark.slow
def test_memory_and_handles_do_not_grow_with_the_rows(tmp_path: Path) -> None:
    run = soak(tmp_path, ROWS, every_seconds=0.05)
    assert violations(run) == []
    assert max(sample.handles for sample in run.samples["generation"]) < 20


def test_growth_is_recognised() -> None:
    steady = [sample(number) for number in range(20)]
    assert violations(Soak({"generation": steady}, {}, [])) == []
    leaks = [sample(number, resident=(100 + number) * MEGABYTE) for number in range(20)]
    assert violations(Soak({"generation": leaks}, {}, [])) == ["generation: memory grew from 105,500,000 to 117,500,000 bytes"]
    opens = [sample(number, handles=8 + number // 10) for number in range(20)]
    assert violations(Soak({"generation": steady, "results": opens}, {}, ["x"])) == [
        "left behind: x",
        "results: handles grew from 8 to 9",
    ]
    assert violations(Soak({"generation": steady[:9]}, {}, [])) == ["generation: only 9 samples, more rows are needed"]
