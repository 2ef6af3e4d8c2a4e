import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from job.errors import OutputError
from job.records import Failure, Prompt
from job.spool import Spool
from tests.unit.builders import prompt

FAILURES = st.none() | st.builds(Failure, st.sampled_from(["too_long", "error"]), st.text(max_size=20))
PROMPTS = st.builds(
    Prompt,
    st.integers(0, 2**62),
    st.none() | st.text(),
    st.lists(st.integers(0, 2**31 - 1), max_size=5),
    st.integers(0, 2**31 - 1),
    FAILURES,
)


@effort(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PROMPTS, max_size=20))
def test_prompts_come_back_as_they_were_written(tmp_path: Path, prompts: list[Prompt]) -> None:
    with Spool(tmp_path) as spool:
        spool.write(prompts)
        assert list(spool) == prompts


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 600])
def test_prompts_keep_their_order_over_batches_and_can_be_read_twice(tmp_path: Path, count: int) -> None:
    with Spool(tmp_path) as spool:
        spool.write(prompt(position) for position in range(count))
        assert spool.rows == count
        assert [each.position for each in spool] == list(range(count))
        assert [each.token_ids for each in spool] == [[position, 1, 2] for position in range(count)]


def test_failures_are_counted_and_the_first_three_kept(tmp_path: Path) -> None:
    broken = Failure("error", "why")
    with Spool(tmp_path) as spool:
        spool.write(prompt(position, broken if position % 2 else None) for position in range(1000))
        assert (spool.rows, spool.failures) == (1000, 500)
        assert [each.position for each in spool.first_failures] == [1, 3, 5]


def test_no_file_is_left_in_the_folder(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.write([prompt(0)])
        assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=f"{tmp_path}/none: No such file or directory. .* choose another OUTPUT_DIR"):
        Spool(tmp_path / "none")


@pytest.mark.parametrize("limit", [10, 40_000])
def test_a_disk_that_takes_no_more_is_an_output_error(tmp_path: Path, limit: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Spool(tmp_path) as spool:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(OutputError, match=f"{tmp_path}: File too large. Make room or choose another OUTPUT_DIR"):
                spool.write(prompt(position) for position in range(100_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
