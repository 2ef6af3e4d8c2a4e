"""Links in a results folder that others can write to: nothing is written or read through one of them."""

import shutil
from pathlib import Path

import pytest

from job import pipeline
from job.effects import Effects
from job.errors import OutputError
from job.records import RunSummary
from job.settings import Settings
from job.shutdown import StopSignal
from tests.support import read_table, results_folder, write_jsonl

SHARD = "shard-00000-of-00001"
DATA = "data/test-00000-of-00001"
MODEL, RUN = "MODEL", "RUN"
# What the job works in, or reads from: a link there is refused.
IN_PLACE = (
    MODEL,
    RUN,
    SHARD,
    "data",
    "images",
    "images/default",
    "engine.json",
    *(f"{SHARD}/{name}" for name in ("lock", "holder.json", "journal.sqlite")),
)
# What it makes anew: a link there is replaced.
IMAGE = "images/default/test-lengths.png"
REPLACED = ("identity.json", "README.md", "run.json", "spent.json", IMAGE, f"{DATA}.parquet", f"{SHARD}/../../latest")
HALF_MADE = (*(f"{name}.tmp" for name in ("engine.json", *REPLACED[:5])), f"{DATA}.tmp", f"{SHARD}/../../latest.tmp")


def run(rows: Path, output: Path) -> RunSummary:
    given = {"ENGINE": "echo", "MODEL_ID": "org/model", "DATASET_ID": rows, "OUTPUT_DIR": output}
    settings = Settings.from_env({name: str(value) for name, value in given.items()})
    return pipeline.run(settings, Effects(StopSignal(20), bind_log=lambda **_: None))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("rows") / "rows.jsonl", [{"instruction": "Say hello."}])


@pytest.fixture(scope="module")
def finished(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished")
    run(rows, output)
    return output


def _place(output: Path, name: str) -> Path:
    folder = results_folder(output)
    return {MODEL: folder.parent, RUN: folder}.get(name, folder / name)


def _as_link(place: Path, elsewhere: Path) -> None:
    """Move what is there away, and leave a link to it; where nothing is, to a file with a text."""
    if place.exists() and not place.is_symlink():
        shutil.move(place, elsewhere)
    else:
        place.unlink(missing_ok=True)
        elsewhere.write_text("precious")
    place.symlink_to(elsewhere)


def _contents(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return {str(file): file.read_bytes() for file in files}


@pytest.mark.parametrize("dangling", [False, True])
@pytest.mark.parametrize("name", IN_PLACE)
def test_a_link_in_the_place_of_what_the_job_works_in_is_refused(
    rows: Path, finished: Path, output: Path, tmp_path: Path, name: str, dangling: bool
) -> None:
    shutil.copytree(finished, output, symlinks=True)
    place, elsewhere = _place(output, name), tmp_path / "elsewhere"
    _as_link(place, elsewhere)
    if dangling:
        elsewhere = elsewhere.rename(tmp_path / "moved")
    before = _contents(elsewhere)
    with pytest.raises(OutputError, match=f"{place} is a link, and below OUTPUT_DIR"):
        run(rows, output)
    assert _contents(elsewhere) == before
    assert not dangling or not place.exists()


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("name", [*REPLACED, *HALF_MADE])
def test_a_link_in_the_place_of_what_the_job_makes_anew_is_replaced(
    rows: Path, finished: Path, output: Path, tmp_path: Path, name: str, again: bool
) -> None:
    """Whether the rows are answered again or are all there: what the link leads to is neither changed nor taken."""
    shutil.copytree(finished, output, symlinks=True)
    place, elsewhere = _place(output, name), tmp_path / "elsewhere"
    _as_link(place, elsewhere)
    before = _contents(elsewhere)
    if again:
        (_place(output, SHARD) / "journal.sqlite").unlink()
    if name.endswith(".tmp"):
        _place(output, "run.json").unlink(missing_ok=True)
    run(rows, output)
    assert _contents(elsewhere) == before
    if again:
        assert not place.is_symlink() or (place.name, str(place.readlink())) == ("latest", results_folder(output).name)
    assert read_table(results_folder(output)).num_rows == 1


def test_the_folder_of_all_results_may_be_a_link(rows: Path, output: Path, tmp_path: Path) -> None:
    """It is its owner's choice, such as another disk."""
    (tmp_path / "disk").mkdir()
    output.symlink_to(tmp_path / "disk")
    folder = run(rows, output).folder
    assert results_folder(tmp_path / "disk") == tmp_path / "disk" / folder.relative_to(output)
