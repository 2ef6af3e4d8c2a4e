from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.errors import SettingsError
from job.settings import Settings
from job.shards import Shard

BASE = {"MODEL_ID": "m", "DATASET_ID": "d"}


@given(st.integers(0, 10_000), st.integers(1, 200))
def test_shards_are_disjoint_complete_in_order_and_of_one_size(rows: int, count: int) -> None:
    parts = [shard.positions(rows) for shard in Shard(0, count).all()]
    assert list(chain.from_iterable(parts)) == list(range(rows))
    sizes = {len(part) for part in parts}
    assert max(sizes) - min(sizes) <= 1


def test_a_shard_is_called_by_its_number_and_how_many_there_are() -> None:
    assert (Shard(3, 12).folder, str(Shard(3, 12)), Shard(3, 12).whole) == ("shard-00003-of-00012", "3/12", False)
    assert (Shard().folder, Shard().whole) == ("shard-00000-of-00001", True)


@pytest.mark.parametrize(
    ("given_", "shard"),
    [
        ({}, Shard(0, 1)),
        ({"SHARD_INDEX": "2", "SHARD_COUNT": "3"}, Shard(2, 3)),
        ({"JOB_COMPLETION_INDEX": "2", "SHARD_COUNT": "3"}, Shard(2, 3)),
        ({"JOB_COMPLETION_INDEX": "2", "SHARD_INDEX": "0", "SHARD_COUNT": "3"}, Shard(0, 3)),
        ({"SHARD_INDEX": "0", "SHARD_COUNT": "1"}, Shard(0, 1)),
    ],
)
def test_the_shard_is_what_the_variables_say(given_: dict[str, str], shard: Shard) -> None:
    assert Settings.from_env(BASE | given_).shards.shard == shard


@pytest.mark.parametrize(
    ("given_", "variable", "message"),
    [
        ({"SHARD_INDEX": "0"}, "SHARD_INDEX", "needs SHARD_COUNT"),
        ({"JOB_COMPLETION_INDEX": "0"}, "JOB_COMPLETION_INDEX", "needs SHARD_COUNT"),
        ({"SHARD_COUNT": "2"}, "SHARD_COUNT", "needs SHARD_INDEX"),
        ({"SHARD_COUNT": "2", "SHARD_INDEX": "2"}, "SHARD_INDEX", "is too large for SHARD_COUNT=2"),
        ({"SHARD_COUNT": "2", "JOB_COMPLETION_INDEX": "7"}, "JOB_COMPLETION_INDEX", "is too large for SHARD_COUNT=2"),
        ({"SHARD_COUNT": "0", "SHARD_INDEX": "0"}, "SHARD_COUNT", "greater than or equal to 1"),
        ({"SHARD_COUNT": "2", "SHARD_INDEX": "-1"}, "SHARD_INDEX", "greater than or equal to 0"),
    ],
)
def test_one_without_the_other_is_an_error(given_: dict[str, str], variable: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(BASE | given_)
    assert any(problem.variable == variable and message in problem.message for problem in caught.value.problems)
