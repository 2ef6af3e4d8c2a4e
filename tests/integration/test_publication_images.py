"""The plot of a card on the Hub: part of the one commit, one for each split, replaced with its answers, and no data."""

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest

from job.plot import lengths_png
from job.report.writing import write_report
from tests.hub_server import Call, CorruptDownload
from tests.integration.publishing import IMAGE, REPO, ROWS, Scene, client
from tests.integration.rivals import plain, several
from tests.integration.test_publication import parquet
from tests.support import read_table, results_folder

pytestmark = pytest.mark.slow
OBJECT = r"/objects/"
ADDED = ("max_rows", "budget")


def facts_of(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return read


def check_plot(scene: Scene, folder: Path, path: str = IMAGE) -> bytes:
    """On the Hub and in the folder lies the plot of the run's counts, and the card shows it."""
    published = scene.repo().files()[path]
    assert published == (folder / IMAGE).read_bytes() == lengths_png(facts_of(folder)["counts"])
    assert f"({path})" in scene.repo().files()["README.md"].decode()
    assert scene.repo().file(path).is_lfs
    return published


def without_matplotlib(folder: Path) -> str:
    """PYTHONPATH of a machine where the library cannot be imported."""
    package = folder / "broken" / "matplotlib"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('a library that is missing')\n")
    return str(package.parent)


def test_the_plot_is_in_the_commit_of_the_answers_and_goes_with_them(scene: Scene) -> None:
    first = scene.run()
    scene.check_published(first)
    before = check_plot(scene, Path(first.last["results"]))
    second = scene.run(MAX_TOKENS=3)
    assert len(scene.commits()) == 2
    after = check_plot(scene, Path(second.last["results"]))
    assert before != after
    assert "length" in scene.repo().files()["README.md"].decode().split("![")[1].split("]")[0]


def test_what_is_loaded_is_the_rows_with_the_plot_or_without(scene: Scene) -> None:
    outcome = scene.run()
    folder = Path(outcome.last["results"])
    rows = read_table(folder).to_pylist()
    with client(scene.hub, scene.folder) as cache:
        for reference in (REPO, str(folder)):
            loaded = datasets.load_dataset(reference, cache_dir=str(cache))
            assert list(loaded) == ["test"]
            assert loaded["test"].to_list() == rows
    (folder / IMAGE).unlink()
    with client(scene.hub, scene.folder) as cache:
        assert datasets.load_dataset(str(folder), split="test", cache_dir=str(cache / "again")).to_list() == rows


def test_beside_a_card_and_data_of_others_both_are_loaded_as_they_were(scene: Scene) -> None:
    card = "# Ours\n\nBy hand.\n"
    theirs: dict[str, str | bytes] = {"README.md": card, "data/train-00000-of-00001.parquet": parquet({"text": ["theirs"]})}
    scene.hub.add_repo("dataset", "ana/shared", files={**theirs, "images/logo.png": b"\x89PNG"}, private=True)
    outcome = scene.run(HUB_REPO_ID="ana/shared", DATASET_CONFIG="easy", DATASET_ID=several(scene.folder / "several"))
    assert outcome.code == 0, outcome.last
    files = scene.repo("ana/shared").files()
    assert files["images/logo.png"] == b"\x89PNG"
    assert files["images/easy/test-lengths.png"].startswith(b"\x89PNG")
    assert scene.rows("ana/shared", "default", "train") == [{"text": "theirs"}]
    parquet_file = Path(outcome.last["results"]) / "easy" / "test-00000-of-00001.parquet"
    assert scene.rows("ana/shared", "easy") == pq.read_table(parquet_file).to_pylist()


def test_each_split_and_configuration_has_a_plot_of_its_own(scene: Scene) -> None:
    folder = several(scene.folder / "several")
    made = {}
    for config, split, tokens in (("easy", "test", 3), ("easy", "train", 5), ("hard", "test", 7)):
        outcome = scene.run(DATASET_ID=folder, DATASET_CONFIG=config, DATASET_SPLIT=split, MAX_TOKENS=tokens)
        assert outcome.code == 0, outcome.last
        made[f"images/{config}/{split}-lengths.png"] = (
            Path(outcome.last["results"]) / f"images/{config}/{split}-lengths.png"
        ).read_bytes()
    files = scene.repo().files()
    assert {path: files[path] for path in files if path.startswith("images/")} == made
    assert len(set(made.values())) == 3
    card = files["README.md"].decode()
    assert all(f"({path})" in card for path in made)


def test_a_plot_that_cannot_be_drawn_costs_no_run_and_leaves_no_stale_one(scene: Scene) -> None:
    folder = plain(scene.folder / "splits")
    scene.run(DATASET_ID=folder)
    scene.run(DATASET_ID=folder, DATASET_SPLIT="train")
    outcome = scene.run(DATASET_ID=folder, SEED=1, PYTHONPATH=without_matplotlib(scene.folder))
    assert (outcome.code, outcome.last["generated_rows"]) == (0, ROWS)
    assert outcome.of("plot_failed")[0]["error"] == "ImportError: a library that is missing"
    results = Path(outcome.last["results"])
    assert not (results / "images").exists()
    files = scene.repo().files()
    assert [path for path in files if path.startswith("images/")] == ["images/default/train-lengths.png"]
    assert f"({IMAGE})" not in files["README.md"].decode()
    assert "(images/default/train-lengths.png)" in files["README.md"].decode()
    again = scene.run(DATASET_ID=folder, SEED=1)  # mended: the plot comes, and nothing is answered for it
    assert (again.code, again.last["generated_rows"]) == (0, 0)
    assert scene.repo().files()[IMAGE] == lengths_png(facts_of(results)["counts"])


def test_rows_that_all_failed_have_no_plot(scene: Scene) -> None:
    outcome = scene.run(ENGINE_ARGS='{"fail_every": 1}', MAX_FAILED_ROWS=ROWS)
    assert (outcome.code, outcome.last["failed_rows"]) == (0, ROWS)
    assert not outcome.of("plot_failed")
    assert not [path for path in scene.repo().files() if path.startswith("images/")]
    assert "![" not in scene.repo().files()["README.md"].decode()


def test_a_plot_that_comes_back_damaged_is_noticed_and_read_again(scene: Scene) -> None:
    damage = Call(lambda _: scene.hub.fail(CorruptDownload(), method="GET", path=OBJECT))
    asked = scene.hub.fail(damage, method="HEAD", path=r"/resolve/[^/]+/images/")  # the content is asked for after it
    outcome = scene.run()
    assert asked.hits == 1
    scene.check_published(outcome)
    (retry,) = outcome.of("upload_retry")
    assert "test-lengths.png" in str(retry)


def test_a_folder_from_before_there_were_plots_is_published_as_it_is(scene: Scene) -> None:
    folder = Path(scene.run(PUSH_TO_HUB="false", MAX_TOKENS=9).last["results"])
    facts = facts_of(folder)
    del facts["counts"]["runaway_lengths"]
    old = {name: value for name, value in facts.items() if name not in ADDED}
    (folder / "run.json").write_text(json.dumps(old, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.rmtree(folder / "images")
    outcome = scene.run(MAX_TOKENS=9)
    assert (outcome.code, outcome.last["generated_rows"]) == (0, 0)
    assert not outcome.of("results_written")
    scene.check_content(outcome)
    assert facts_of(folder) == old
    report = write_report([str(folder)], scene.folder / "report.html", lambda: pytest.fail("nothing is asked of the Hub"))
    assert report.rows == ROWS
    assert scene.repo().files()[IMAGE] == lengths_png(old["counts"])
    assert len(scene.commits()) == 1


def test_the_whole_of_shards_has_the_plot_of_one_process_without_reading_rows(scene: Scene) -> None:
    alone = scene.run(MAX_TOKENS=9)
    plot = check_plot(scene, Path(alone.last["results"]))
    output = scene.folder / "sharded"
    for index in range(3):
        outcome = scene.run(MAX_TOKENS=9, OUTPUT_DIR=output, SHARD_COUNT=3, SHARD_INDEX=index, PUSH_TO_HUB="false")
        assert outcome.code == 0, outcome.last
    whole = results_folder(output)
    assert (whole / IMAGE).read_bytes() == plot
    assert facts_of(whole)["counts"] == facts_of(Path(alone.last["results"]))["counts"]


def test_shards_that_meet_on_the_hub_publish_the_plot_of_the_whole(scene: Scene) -> None:
    for index in range(2):
        outcome = scene.run(MAX_TOKENS=9, OUTPUT_DIR=scene.folder / f"machine-{index}", SHARD_COUNT=2, SHARD_INDEX=index)
        assert outcome.code == 0, outcome.last
    assert len(scene.commits()) == 1
    facts = json.loads(scene.repo().files()["run.json"])
    assert facts["counts"]["rows"] == ROWS
    assert scene.repo().files()[IMAGE] == lengths_png(facts["counts"])


def test_no_settings_of_a_person_and_no_folder_of_theirs_is_touched(scene: Scene) -> None:
    home = scene.folder / "home"
    (home / ".config" / "matplotlib").mkdir(parents=True)
    (home / ".config" / "matplotlib" / "matplotlibrc").write_text("axes.facecolor: black\nfont.size: 40\n")
    outcome = scene.run(HOME=home, MPLBACKEND="module://matplotlib_inline.backend_inline")
    check_plot(scene, Path(outcome.last["results"]))
    assert [path.name for path in (home / ".config" / "matplotlib").iterdir()] == ["matplotlibrc"]
    assert not list(home.glob(".cache/matplotlib*"))


def test_a_plot_that_is_there_is_not_drawn_again(scene: Scene, tmp_path: Path) -> None:
    folder = Path(scene.run().last["results"])
    again = scene.run(PYTHONPATH=without_matplotlib(tmp_path))
    assert (again.code, again.of("plot_failed")) == (0, [])
    (folder / IMAGE).unlink()
    assert scene.run().code == 0
    assert len(scene.commits()) == 1
    assert scene.repo().files()[IMAGE] == lengths_png(facts_of(folder)["counts"])
