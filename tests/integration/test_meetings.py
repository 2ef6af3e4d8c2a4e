"""Shards that share no folder meet on the Hub: the whole is published once, by whoever comes last, whatever is killed.

`python -m tests.meetings` does the same for as long as one likes.
"""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import Status
from tests.integration.meetings import BRANCH, BRANCH_COMMIT, MAIN_COMMIT, STORAGE, Campaign
from tests.integration.publishing import ROWS, Scene
from tests.support import Outcome, running

pytestmark = pytest.mark.slow


def run_shard(scene: Scene, index: int, count: int = 2, machine: str = "", **more: object) -> Outcome:
    """A shard on a machine of its own."""
    output = scene.folder / f"machine-{index}{machine}"
    return scene.run(OUTPUT_DIR=output, HF_HOME=output / "home", SHARD_INDEX=index, SHARD_COUNT=count, **more)


def branches(scene: Scene) -> list[str]:
    return [name for name in scene.repo().branches if name.startswith("run-")]


def check_whole(scene: Scene) -> None:
    assert len(scene.commits()) == 1
    assert [row["id"] for row in scene.rows()] == list(range(ROWS))


def test_shards_killed_at_random_meet(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=3, counts=[3])
    campaign.round(tmp_path / "0", 3)
    assert campaign.report.violations == []
    assert campaign.report.starts >= 4


def test_the_last_one_publishes_the_whole_and_removes_the_branch(scene: Scene) -> None:
    first = run_shard(scene, 1)
    assert (first.code, first.last["missing_shards"]) == (0, [0])
    assert first.of("shard_contributed")[0]["missing"] == [0]
    assert scene.commits() == []
    assert len(branches(scene)) == 1
    last = run_shard(scene, 0)
    assert last.code == 0
    check_whole(scene)
    assert last.last["commit"] == scene.commits()[0].oid
    assert branches(scene) == []


def test_the_data_is_sent_once(scene: Scene) -> None:
    for index in range(2):
        assert run_shard(scene, index).code == 0
    assert len(scene.hub.seen("PUT", "/uploads/")) == 3  # two parts, and the plot of the whole


def test_a_shard_whose_disk_is_lost_is_found_on_the_branch(scene: Scene) -> None:
    assert run_shard(scene, 0).code == 0
    again = run_shard(scene, 0, machine="-new")
    assert (again.code, again.last["generated_rows"], again.last["missing_shards"]) == (0, 0, [1])
    assert not again.of("engine_starting")


def test_a_set_that_is_published_is_found_by_a_machine_that_has_nothing(scene: Scene) -> None:
    for index in range(2):
        assert run_shard(scene, index).code == 0
    for index, count in ((0, 2), (2, 5)):  # answers do not depend on how many shards there are
        again = run_shard(scene, index, count, machine="-new")
        assert (again.code, again.last["generated_rows"]) == (0, 0)
        assert again.last["commit"] == scene.commits()[0].oid
    check_whole(scene)
    assert branches(scene) == []


def test_a_process_killed_before_it_read_back_is_followed_by_one_that_does(scene: Scene) -> None:
    assert run_shard(scene, 0).code == 0
    scene.hub.fail(Status(503), method="GET", path=STORAGE, times=None)
    assert run_shard(scene, 1, HUB_DEADLINE_SECONDS=3).code == 69
    assert (len(scene.commits()), len(branches(scene))) == (1, 1)
    scene.hub.recover()
    before = len(scene.hub.seen("GET", STORAGE))
    again = run_shard(scene, 0, machine="-new")
    assert (again.code, again.last["generated_rows"]) == (0, 0)
    assert len(scene.hub.seen("GET", STORAGE)) > before
    check_whole(scene)
    assert branches(scene) == []


def test_a_branch_that_cannot_be_removed_does_no_harm(scene: Scene) -> None:
    scene.hub.fail(Status(403), method="DELETE", path=BRANCH, times=None)
    for index in range(2):
        assert run_shard(scene, index).code == 0
    assert run_shard(scene, 1, machine="-new").of("branch_left")
    check_whole(scene)
    assert len(branches(scene)) == 1
    scene.hub.recover()
    assert run_shard(scene, 0).code == 0
    assert branches(scene) == []
    check_whole(scene)


@pytest.mark.parametrize("listed", [1, 0])
def test_a_manifest_that_lists_not_all_files_costs_none_of_them(scene: Scene, listed: int) -> None:
    for index in range(2):
        assert run_shard(scene, index).code == 0
    facts = json.loads(scene.repo().files()["run.json"])
    scene.repo().commit({"run.json": json.dumps(facts | {"files": facts["files"][:listed]})})
    again = run_shard(scene, 0)
    assert (again.code, again.last["missing_shards"]) == (0, [1])
    check_whole(scene)


def test_another_run_does_not_join(scene: Scene) -> None:
    assert run_shard(scene, 0, SEED=1).code == 0
    assert run_shard(scene, 1, SEED=2).last["missing_shards"] == [0]
    assert run_shard(scene, 1, 3, SEED=1).last["missing_shards"] == [0, 2]  # another number of shards
    assert run_shard(scene, 1, SEED=1, MAX_ROWS=ROWS - 4).last["missing_shards"] == [0]  # of another number of rows
    assert scene.commits() == []


def test_a_hub_that_refuses_the_part_keeps_the_answers_on_disk(scene: Scene) -> None:
    scene.hub.fail(Status(403), method="POST", path=BRANCH_COMMIT, times=None)
    outcome = run_shard(scene, 0)
    assert outcome.code == 77
    assert "All answers are safe in" in str(outcome.last["message"])
    scene.hub.recover()
    again = run_shard(scene, 0)
    assert (again.code, again.last["generated_rows"]) == (0, 0)


def test_failed_rows_are_counted_over_all_shards_and_tried_again(scene: Scene) -> None:
    """On a machine that has nothing, too: what is on the branch would never be good enough."""
    some: dict[str, Any] = {"ENGINE_ARGS": '{"fail_every": 5}', "MAX_FAILED_ROWS": 2}
    assert run_shard(scene, 0, **some).code == 0
    last = run_shard(scene, 1, **some)
    assert last.code == 65
    assert f"4 of {ROWS} rows have no answer, and MAX_FAILED_ROWS=2" in last.last["message"]
    assert scene.commits() == []
    again = run_shard(scene, 0, machine="-new", **some)
    assert again.code == 65
    assert again.of("engine_starting")
    enough = run_shard(scene, 0, machine="-newer", **some | {"MAX_FAILED_ROWS": 4})
    assert (enough.code, enough.last["generated_rows"]) == (0, 0)
    assert len(scene.commits()) == 1


def test_shards_of_two_splits_share_a_repository(scene: Scene) -> None:
    for split in ("test", "train"):
        for index in range(2):
            assert run_shard(scene, index, machine=split, DATASET_SPLIT=split).code == 0
    assert len(scene.commits()) == 2
    assert [row["id"] for row in scene.rows(split="train")] == list(range(ROWS))
    assert [row["id"] for row in scene.rows(split="test")] == list(range(ROWS))


def test_a_stop_while_the_part_is_sent_is_resumed(scene: Scene) -> None:
    scene.hub.fail(Status(503, {"Retry-After": "60"}), method="POST", path=BRANCH_COMMIT, times=None)
    output = scene.folder / "machine-0"
    variables = scene.variables | {"OUTPUT_DIR": output, "HF_HOME": output / "home", "SHARD_INDEX": 0, "SHARD_COUNT": 2}
    with running(scene.folder / "log", variables) as job:
        job.event("upload_retry")
        job.process.send_signal(signal.SIGTERM)
        assert job.end().code == 75
    scene.hub.recover()
    assert run_shard(scene, 0).last["generated_rows"] == 0
    assert run_shard(scene, 1).code == 0
    check_whole(scene)
    assert not scene.hub.seen("POST", MAIN_COMMIT)[1:]
