"""Shards over a shared folder: the same rows whatever their number, put together once, by whoever comes last."""

import json
import random
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.publishing import ROWS as PUBLISHED_ROWS
from tests.integration.publishing import Scene
from tests.support import ECHO, Outcome, finished_rows, results_folder, run_job, running, start_job, write_jsonl

pytestmark = pytest.mark.slow
ROWS = 40


@pytest.fixture
def run(tmp_path: Path) -> dict[str, object]:
    data = write_jsonl(
        tmp_path / "rows.jsonl", [{"instruction": f"Count to {number}.", "id": number} for number in range(ROWS)]
    )
    return {**ECHO, "DATASET_ID": data}


def run_shard(run: dict[str, object], output: Path, index: int, count: int, **more: object) -> Outcome:
    return run_job(**run, OUTPUT_DIR=output, SHARD_INDEX=index, SHARD_COUNT=count, **more)


def table(output: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(file) for file in sorted(results_folder(output).glob("data/*.parquet")))


def manifest(output: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((results_folder(output) / "run.json").read_text())
    return facts


def test_any_number_of_shards_gives_the_same_rows(run: dict[str, object], tmp_path: Path) -> None:
    run |= {"MAX_TOKENS": 43}  # cuts some of the answers
    assert run_job(**run, OUTPUT_DIR=tmp_path / "one").code == 0
    for count in (2, 3, 7):
        output, order = tmp_path / str(count), random.Random(count).sample(range(count), count)
        ended = [run_shard(run, output, index, count) for index in order]
        assert [each.code for each in ended] == [0] * count
        assert [each.last.get("missing_shards", []) for each in ended] == [sorted(order[i + 1 :]) for i in range(count)]
        assert table(output).equals(table(tmp_path / "one"))
        assert len(manifest(output)["files"]) == count
        for name in ("counts", "answers"):
            assert json.dumps(manifest(output)[name]) == json.dumps(manifest(tmp_path / "one")[name])
        assert 0 < manifest(output)["answers"]["runaways"] < ROWS
        again = run_shard(run, output, 0, count)
        assert (again.code, again.last["generated_rows"]) == (0, 0)


def test_a_reader_gets_all_rows_once(run: dict[str, object], output: Path) -> None:
    from datasets import load_dataset

    for index in range(3):
        assert run_shard(run, output, index, 3).code == 0
    assert load_dataset(str(results_folder(output)), split="test")["id"] == list(range(ROWS))


@pytest.mark.parametrize("counts", [(3, 2), (2, 1), (1, 2), (2, 1, 2, 1)])
def test_another_number_of_shards_replaces_the_files_of_the_last_one(
    run: dict[str, object], output: Path, counts: tuple[int, ...]
) -> None:
    from datasets import load_dataset

    for count in counts:
        for index in range(count):
            shard = {"SHARD_INDEX": index, "SHARD_COUNT": count} if count > 1 else {}
            assert run_job(**run, OUTPUT_DIR=output, **shard).code == 0
        names = [f"test-{index:05d}-of-{count:05d}.parquet" for index in range(count)]
        assert sorted(file.name for file in results_folder(output).glob("data/*")) == names
        assert load_dataset(str(results_folder(output)), split="test")["id"] == list(range(ROWS))


def test_a_set_with_a_missing_shard_is_not_put_together(run: dict[str, object], output: Path) -> None:
    for index in (0, 2):
        ended = run_shard(run, output, index, 3)
        assert ended.of("shards_missing")[0]["missing"] == ([1, 2] if index == 0 else [1])
        assert str(ended.last["results"]).endswith(f"shard-0000{index}-of-00003")
    assert not list(output.glob("*/*/run.json"))
    assert not list(output.glob("*/*/data"))
    assert run_shard(run, output, 1, 3, SEED=5).last["missing_shards"] == [0, 2]  # of another run
    assert not list(output.glob("*/*/run.json"))


def test_a_shard_of_fewer_rows_does_not_join(run: dict[str, object], output: Path) -> None:
    assert run_shard(run, output, 0, 2, MAX_ROWS=ROWS // 2).code == 0
    assert run_shard(run, output, 1, 2).last["missing_shards"] == [0]
    assert run_shard(run, output, 0, 2).code == 0
    assert manifest(output)["counts"]["rows"] == ROWS


def test_failed_rows_are_counted_over_all_shards(run: dict[str, object], output: Path, tmp_path: Path) -> None:
    rows = [{"instruction": None if number in (1, 38) else "Count."} for number in range(ROWS)]
    run = {**run, "DATASET_ID": write_jsonl(tmp_path / "holes.jsonl", rows), "MAX_FAILED_ROWS": 1}
    assert run_shard(run, output, 0, 2).code == 0
    last = run_shard(run, output, 1, 2)
    assert last.code == 65
    assert "2 of 40 rows have no answer, and MAX_FAILED_ROWS=1" in last.last["message"]
    assert run_shard({**run, "MAX_FAILED_ROWS": 2}, output, 1, 2).code == 0


def test_a_killed_shard_goes_on_where_it_was(run: dict[str, object], output: Path, tmp_path: Path) -> None:
    slow = {**run, "ENGINE_ARGS": json.dumps({"delay_seconds": 0.05, "window": 2})}
    assert run_job(**slow, OUTPUT_DIR=tmp_path / "one").code == 0
    shard = {"OUTPUT_DIR": output, "SHARD_INDEX": 0, "SHARD_COUNT": 2}
    with running(tmp_path / "log", {**slow, **shard}) as job:
        job.until(lambda: len(finished_rows(output)) >= 3 or None)
        job.process.send_signal(signal.SIGKILL)
        job.process.wait()
    kept = len(finished_rows(output))
    assert run_job(**slow, **shard).last["generated_rows"] == ROWS // 2 - kept
    assert run_shard(slow, output, 1, 2).code == 0
    assert table(output).equals(table(tmp_path / "one"))


def test_shards_that_end_at_once_publish_once(scene: Scene) -> None:
    for seed in range(2):
        jobs = [start_job(**scene.variables, SEED=seed, SHARD_INDEX=index, SHARD_COUNT=3) for index in range(3)]
        for job in jobs:
            out, err = job.communicate(timeout=120)
            assert job.returncode == 0, out[-500:] + err
        assert len(scene.commits()) == seed + 1
        assert [row["id"] for row in scene.rows()] == list(range(PUBLISHED_ROWS))
    files = scene.repo().files()
    assert sorted(path for path in files if path.endswith(".parquet")) == [
        f"data/test-0000{index}-of-00003.parquet" for index in range(3)
    ]
