"""What is in the repository after one run, after another one, and beside what others put there."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.hub_server import HubServer
from tests.integration.publishing import IMAGE, REPO, ROWS, TOKEN, Scene
from tests.integration.rivals import plain, several

pytestmark = pytest.mark.slow
BY_HAND = "# Our answers\n\nWritten by hand, with a <b>tag</b> and an ä.\n"


def parquet(columns: dict[str, list[Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def test_a_published_run_is_published_once(scene: Scene) -> None:
    first = scene.run()
    scene.check_published(first)
    assert scene.repo().private
    assert first.of("published")[0]["new"] is True
    (commit,) = scene.commits()
    assert sorted(commit.tree) == [".gitattributes", "README.md", "data/test-00000-of-00001.parquet", IMAGE, "run.json"]
    seen = len(scene.hub.requests)
    again = scene.run()
    scene.check_published(again, generated=0)
    assert not again.of("engine_starting")
    assert again.of("published")[0]["new"] is False
    assert {request.method for request in scene.hub.requests[seen:]} <= {"GET", "HEAD"}
    assert again.last["seconds"] < 10


def test_a_local_run_makes_no_request(scene: Scene) -> None:
    """Published before, and then told not to publish."""
    scene.check_published(scene.run())
    seen = len(scene.hub.requests)
    outcome = scene.run(PUSH_TO_HUB="false")
    assert (outcome.code, outcome.last["generated_rows"]) == (0, 0)
    assert scene.hub.requests[seen:] == []


def test_answers_to_a_dataset_on_the_hub_are_published_to_the_named_repository(scene: Scene) -> None:
    scene.hub.add_repo("dataset", "bob/rows", files={"test.jsonl": scene.data.read_text()})
    outcome = scene.run(DATASET_ID="bob/rows", HUB_REPO_ID="ana/named")
    scene.check_published(outcome, repo_id="ana/named")
    assert [row["id"] for row in scene.rows("ana/named")] == list(range(ROWS))


def test_a_changed_setting_replaces_the_answers_in_one_more_commit(scene: Scene) -> None:
    scene.check_published(scene.run())
    changed = scene.run(SEED=1)
    assert (changed.code, changed.last["generated_rows"], len(scene.commits())) == (0, ROWS, 2)
    scene.check_content(changed)
    card = scene.repo().files()["README.md"].decode()
    assert card.count("# Answers of echo-model") == 1
    assert changed.last["run_id"] in card


def test_files_of_an_earlier_publication_are_removed_in_the_same_commit(scene: Scene) -> None:
    old = parquet({"instruction": ["old"], "id": [0]})
    stale = {f"data/test-0000{number}-of-00002.parquet": old for number in range(2)}
    kept = {"data/training.txt": b"t", "notes/test-00000-of-00002.parquet": b"n"}
    scene.hub.add_repo("dataset", REPO, files=stale | kept, private=True)
    scene.check_published(scene.run())
    files = scene.repo().files()
    assert not stale.keys() & files.keys()
    assert {path: files[path] for path in kept} == kept


def test_words_and_metadata_of_others_are_kept(scene: Scene) -> None:
    metadata = {
        "license": "mit",
        "configs": [{"config_name": "human", "data_files": [{"split": "test", "path": "human/*.parquet"}]}],
    }
    card = f"---\n{yaml.safe_dump(metadata)}---\n{BY_HAND}"
    human = parquet({"instruction": ["x"], "answers": ["y"]})
    scene.hub.add_repo("dataset", REPO, files={"README.md": card, "human/a.parquet": human}, private=True)
    outcome = scene.run()
    assert (outcome.code, len(scene.commits())) == (0, 1), outcome.last
    scene.check_content(outcome)
    _, front, text = scene.repo().files()["README.md"].decode().split("---\n", 2)
    merged = yaml.safe_load(front)
    assert merged["license"] == "mit"
    assert merged["configs"][0] == metadata["configs"][0]
    assert text.startswith(BY_HAND)
    assert scene.rows(config="human") == [{"instruction": "x", "answers": "y"}]
    scene.repo().commit({"README.md": f"---\n{front}---\n{text}\nMore by hand.\n"}, "Write more")
    again = scene.run()
    assert (again.code, again.last["commit"], len(scene.commits())) == (0, scene.commits()[0].oid, 1)
    assert scene.repo().files()["README.md"].decode().endswith("More by hand.\n")


def test_splits_and_configurations_are_published_side_by_side(scene: Scene) -> None:
    folder = several(scene.folder / "several")
    runs = {
        name: scene.run(DATASET_ID=folder, DATASET_CONFIG=name[0], DATASET_SPLIT=name[1])
        for name in (("easy", "test"), ("easy", "train"), ("hard", "test"))
    }
    manifests = {("easy", "test"): "easy/run.json", ("easy", "train"): "easy/run-train.json", ("hard", "test"): "hard/run.json"}
    for (config, split), outcome in runs.items():
        assert (outcome.code, outcome.last["generated_rows"]) == (0, ROWS), outcome.last
        scene.check_content(outcome, config=config, split=split, manifest=manifests[config, split])
    assert len(scene.commits()) == 3
    head = scene.repo().head()
    again = scene.run(DATASET_ID=folder, DATASET_CONFIG="easy", DATASET_SPLIT="test")
    assert (again.code, again.last["generated_rows"], scene.repo().head()) == (0, 0, head)
    assert again.last["commit"] == runs["easy", "test"].last["commit"]


def test_a_second_split_lies_beside_the_first(scene: Scene) -> None:
    folder = plain(scene.folder / "splits")
    first = scene.run(DATASET_ID=folder)
    scene.check_published(first)
    second = scene.run(DATASET_ID=folder, DATASET_SPLIT="train")
    assert (second.code, second.last["generated_rows"], len(scene.commits())) == (0, ROWS, 2)
    scene.check_content(first)
    scene.check_content(second, split="train", manifest="run-train.json")


def test_a_repository_of_an_organisation_is_made_by_a_member_who_may_write(scene: Scene, hub: HubServer) -> None:
    hub.add_organisation("lab", {"ana": "write"})
    scene.check_published(scene.run(HUB_NAMESPACE="lab"), repo_id="lab/echo-model-results")
    assert TOKEN not in str(scene.repo("lab/echo-model-results").files())


def test_a_repository_that_keeps_data_out_of_lfs_is_published_to_once(scene: Scene) -> None:
    scene.hub.add_repo("dataset", REPO, files={".gitattributes": "*.zip filter=lfs diff=lfs merge=lfs -text\n"}, private=True)
    first = scene.run()
    scene.check_published(first)
    assert not scene.repo().file("data/test-00000-of-00001.parquet").is_lfs
    again = scene.run()
    assert (again.code, again.last["commit"], len(scene.commits())) == (0, first.last["commit"], 1)


def test_a_repository_that_keeps_texts_in_lfs_is_published_to_once(scene: Scene) -> None:
    lfs = "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in ("parquet", "json", "md"))
    scene.hub.add_repo("dataset", REPO, files={".gitattributes": lfs}, private=True)
    first = scene.run()
    scene.check_published(first)
    scene.repo().commit({"notes.txt": "n"}, "Take notes")
    sent = len(scene.hub.seen("POST"))
    again = scene.run()
    assert (again.code, again.last["commit"], len(scene.hub.seen("POST"))) == (0, first.last["commit"], sent)
