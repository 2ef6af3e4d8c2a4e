"""Two jobs publish into one repository at the same moment: neither loses, doubles or hides anything.

`python -m tests.races` does the same for as long as one likes.
"""

from pathlib import Path

import pytest

from tests.integration.rivals import Campaign

pytestmark = pytest.mark.slow
RACES = [
    ("two splits", "making the repository", "none"),
    ("two splits of a configuration", "commit", "lost answer"),
    ("two configurations", "upload", "none"),
]


@pytest.mark.parametrize(("pair", "place", "fault"), RACES)
def test_rivals_both_publish(pair: str, place: str, fault: str, tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=1)
    campaign.race("race", pair, place, fault)
    assert campaign.report.violations == []
    assert campaign.report.met == 1, "they did not meet: this proves nothing"
    if place != "making the repository":
        # The answer that is lost may be the one that refuses: then it shows as a second attempt alone.
        assert campaign.report.collisions or (fault == "lost answer" and campaign.report.attempts[2])
