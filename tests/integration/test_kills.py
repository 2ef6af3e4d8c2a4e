"""SIGKILL at random moments: no finished row is lost, changed or made again, and the results are as if nothing had happened.

`python -m tests.torture` does the same for as long as one likes.
"""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.kills import Campaign, Moment, Report, snapshot

pytestmark = pytest.mark.slow
KILLS = 6


def killed(folder: Path, *, samples: int, seed: int, counted: bool) -> Report:
    campaign = Campaign(folder, rows=360 // samples, seed=seed)
    while campaign.report.kills.total() < KILLS:
        campaign.chain(samples, counted=counted, kills=KILLS)
    return campaign.report


def test_a_killed_run_loses_no_journalled_row_and_makes_none_twice(tmp_path: Path) -> None:
    report = killed(tmp_path, samples=1, seed=1, counted=True)
    assert report.violations == []
    assert report.identical == report.chains
    assert report.most_in_flight > 0, "no kill came during generation: this proves little"


def test_killed_runs_of_several_samples_end_in_the_same_bytes(tmp_path: Path) -> None:
    report = killed(tmp_path, samples=3, seed=2, counted=False)
    assert report.violations == []
    assert report.identical == report.chains


def test_signals_full_disks_and_twins_lose_no_row_either(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a small disk of its own needs the right to mount one")
    campaign = Campaign(tmp_path, rows=300, seed=4, moments=(Moment.TERM, Moment.FULL, Moment.TWIN, Moment.INT))
    while campaign.report.kills.total() < KILLS:
        campaign.chain(1, counted=True, kills=KILLS)
    report = campaign.report
    assert report.violations == []
    assert report.identical == report.chains
    assert len(report.kills) >= 3


def test_a_kill_inside_a_transaction_is_recognised(tmp_path: Path) -> None:
    """The measuring device itself: files as they are while SQLite is writing, taken away under it."""
    work, shard = tmp_path / "work.sqlite", tmp_path / "results" / "model" / "run" / "shard-00000-of-00001"
    shard.mkdir(parents=True)
    with closing(sqlite3.connect(work)) as connection:
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA cache_size = 2")  # pages are written to the file before the commit
        with connection:
            connection.execute("CREATE TABLE finished(position INTEGER PRIMARY KEY, text TEXT)")
            connection.executemany("INSERT INTO finished VALUES (?, ?)", ((number, "a" * 900) for number in range(50)))
        connection.execute("UPDATE finished SET text = replace(text, 'a', 'b')")
        shutil.copyfile(work, shard / "journal.sqlite")
        shutil.copyfile(f"{work}-journal", shard / "journal.sqlite-journal")
    left = snapshot(tmp_path / "results", tmp_path / "copy")
    assert (left.sound, left.hot, left.torn) == (True, True, True)
    assert left.rows == dict.fromkeys(range(50), ("a" * 900,))
    (shard / "journal.sqlite-journal").write_bytes(b"")
    left = snapshot(tmp_path / "results", tmp_path / "copy")
    assert (left.hot, left.torn) == (False, False)
    assert left.rows[0] == ("b" * 900,)
