import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from job.errors import DatasetError, OutputError
from job.identity import row_seed
from job.layout import CARD, MANIFEST
from job.records import Completion, ResultRow, Tally
from job.references import sha256_of
from job.results import GROUP_BYTES, Written, check_names, read_finished, result_columns, tally_of, write_data
from tests.unit.builders import answered, failed

METADATA: dict[bytes | str, bytes | str] = {"kept": "yes"}
SOURCE = pa.schema({"instruction": pa.string(), "tags": pa.list_(pa.string())}, metadata=METADATA)
PATH = "data/test-00000-of-00001.parquet"


def _tables(*sizes: int) -> Iterator[pa.Table]:
    position = 0
    for size in sizes:
        rows = [{"instruction": f" text {i}\n", "tags": ["a", None]} for i in range(position, position + size)]
        yield pa.Table.from_pylist(rows, schema=SOURCE)
        position += size


def _schema(num_samples: int) -> pa.Schema:
    return pa.schema([*SOURCE, *result_columns(num_samples)], metadata=METADATA)


def _write(folder: Path, rows: Sequence[ResultRow], sizes: Sequence[int], num_samples: int = 1, seed: int = 5) -> Written:
    return write_data(folder, PATH, _schema(num_samples), _tables(*sizes), iter(rows), seed=seed, num_samples=num_samples)


def test_the_columns_are_those_that_readers_expect() -> None:
    columns = result_columns(1)
    assert columns.names == ["prompt", "answers", "finish_reason", "prompt_tokens", "completion_tokens", "seed"]
    assert columns.types == [pa.string(), pa.string(), pa.string(), pa.int32(), pa.int32(), pa.int64()]


def test_the_columns_are_lists_where_a_row_has_several_samples() -> None:
    listed = [pa.list_(pa.string()), pa.list_(pa.string()), pa.int32(), pa.list_(pa.int32()), pa.list_(pa.int64())]
    assert result_columns(2).types == [pa.string(), *listed]


def test_a_clash_of_names_is_refused_with_the_remedy() -> None:
    source = pa.schema([(name, pa.string()) for name in ("instruction", "answers", "seed", "id")])
    with pytest.raises(DatasetError) as caught:
        check_names(source, ["id"], 1)
    assert str(caught.value) == (
        "the dataset has columns that the results need the names of: answers, seed. "
        "Leave them out with DROP_COLUMNS=id,answers,seed, or rename them."
    )
    check_names(source, ["answers", "seed"], 1)


def test_source_columns_are_untouched_and_results_follow(tmp_path: Path) -> None:
    _write(tmp_path, [answered(0, " an\0swer \n", prompt="P0"), failed(1), answered(2)], [2, 1])
    table = pq.read_table(tmp_path / PATH)
    assert table.schema.names == [*SOURCE.names, *result_columns(1).names]
    assert table.schema.metadata == {b"kept": b"yes"}
    assert table["instruction"].to_pylist() == [" text 0\n", " text 1\n", " text 2\n"]
    assert table["tags"].to_pylist() == [["a", None]] * 3
    assert table["prompt"].to_pylist() == ["P0", "a prompt", "a prompt"]
    assert table["answers"].to_pylist() == [" an\0swer \n", None, "an answer"]
    assert table["finish_reason"].to_pylist() == ["stop", "error", "stop"]
    assert table["prompt_tokens"].to_pylist() == [3, 3, 3]
    assert table["completion_tokens"].to_pylist() == [7, 0, 7]
    assert table["seed"].to_pylist() == [row_seed(5, position, 0) for position in range(3)]


def test_several_samples_are_lists_in_sample_order(tmp_path: Path) -> None:
    mixed = ResultRow(1, "p", 2, (Completion(1, 0, "one", "length", 9), Completion(1, 1, None, "error", 0, "why")))
    written = _write(tmp_path, [answered(0, "a", "b"), mixed], [2], num_samples=2)
    table = pq.read_table(tmp_path / PATH)
    assert table["answers"].to_pylist() == [["a", "b"], ["one", None]]
    assert table["finish_reason"].to_pylist() == [["stop", "stop"], ["length", "error"]]
    assert table["completion_tokens"].to_pylist() == [[7, 7], [9, 0]]
    assert table["seed"].to_pylist()[1] == [row_seed(5, 1, 0), row_seed(5, 1, 1)]
    assert written.tally == Tally(2, 1, {"error": 1, "length": 1, "stop": 2}, 5, 23, 9, {7: 2, 9: 1}, {"length": {9: 1}})


def test_rows_and_reasons_are_counted(tmp_path: Path) -> None:
    written = _write(tmp_path, [answered(0), failed(1), answered(2), answered(3)], [3, 1])
    assert written.tally == Tally(4, 1, {"error": 1, "stop": 3}, 12, 21, 0, {7: 3})


def test_runaways_are_what_the_model_did_not_end_itself_and_what_has_no_answer_has_no_length(tmp_path: Path) -> None:
    done = [("a", "length", 30), ("b", "repetition", 20), ("c", "stop", 10), (None, "error", 5), ("d", "length", 30)]
    rows = [
        ResultRow(position, "p", 1, (Completion(position, 0, text, reason, tokens),))  # type: ignore[arg-type]
        for position, (text, reason, tokens) in enumerate(done)
    ]
    tally = _write(tmp_path, rows, [5]).tally
    assert tally.finish_reasons == {"error": 1, "length": 2, "repetition": 1, "stop": 1}
    assert (tally.failed_rows, tally.completion_tokens, tally.runaway_tokens) == (1, 95, 80)
    assert list(tally.lengths.items()) == [(10, 1), (20, 1), (30, 2)]


def test_the_file_is_described_as_it_is(tmp_path: Path) -> None:
    file = _write(tmp_path, [answered(0), answered(1)], [1, 1]).file
    assert (file.path, file.rows) == (PATH, 2)
    assert file.bytes == (tmp_path / PATH).stat().st_size
    assert file.sha256 == sha256_of(tmp_path / PATH)
    assert file.memory_bytes > 100
    assert [each.name for each in (tmp_path / "data").iterdir()] == ["test-00000-of-00001.parquet"]


def test_writing_twice_gives_identical_bytes(tmp_path: Path) -> None:
    rows = [answered(position) for position in range(50)]
    one, two = (_write(tmp_path / name, rows, [20, 30]) for name in ("one", "two"))
    assert one == two
    assert (tmp_path / "one" / PATH).read_bytes() == (tmp_path / "two" / PATH).read_bytes()


def test_row_groups_grow_with_what_they_hold_and_not_with_rows(tmp_path: Path) -> None:
    """The writer keeps something of each group in memory until the end."""
    _write(tmp_path, [answered(position) for position in range(3000)], [1000] * 3)
    assert pq.ParquetFile(tmp_path / PATH).num_row_groups == 1
    long = "a" * (GROUP_BYTES // 2)
    _write(tmp_path, [answered(position, long) for position in range(5)], [1] * 5)
    file = pq.ParquetFile(tmp_path / PATH)
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [2, 2, 1]
    assert file.read()["answers"].to_pylist() == [long] * 5


@pytest.mark.parametrize(("positions", "lacking"), [([0, 2], 1), ([0, 1], 2), ([1, 2], 0), ([], 0)])
def test_a_row_that_the_journal_lacks_is_an_output_error(tmp_path: Path, positions: list[int], lacking: int) -> None:
    with pytest.raises(OutputError) as caught:
        _write(tmp_path, [answered(position) for position in positions], [2, 1])
    assert str(caught.value) == f"{tmp_path}: the journal lacks row {lacking}: run the same command again to answer it."
    assert not (tmp_path / PATH).exists()


def test_an_old_file_stays_where_the_new_one_fails(tmp_path: Path) -> None:
    _write(tmp_path, [answered(0)], [1])
    before = (tmp_path / PATH).read_bytes()
    with pytest.raises(OutputError):
        _write(tmp_path, [answered(0)], [2])
    assert (tmp_path / PATH).read_bytes() == before


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A results folder of three rows, as complete as read_finished asks for."""
    file = _write(tmp_path, [answered(0), failed(1), answered(2)], [3]).file
    counts = {
        "rows": 3,
        "failed_rows": 1,
        "finish_reasons": {"error": 1, "stop": 2},
        "prompt_tokens": 9,
        "completion_tokens": 14,
        "runaway_tokens": 0,
        "lengths": {"7": 2},
    }
    manifest = {"counts": counts, "files": [asdict(file)]}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    (tmp_path / CARD).write_text("card")
    return tmp_path


def test_finished_results_are_found_with_their_tally(finished: Path) -> None:
    manifest = read_finished(finished, PATH, 3)
    assert manifest is not None
    assert tally_of(manifest) == Tally(3, 1, {"error": 1, "stop": 2}, 9, 14, 0, {7: 2})


def test_results_of_an_earlier_release_which_counted_less_are_written_again(finished: Path) -> None:
    manifest = json.loads((finished / MANIFEST).read_text())
    for name in ("runaway_tokens", "lengths"):
        del manifest["counts"][name]
    (finished / MANIFEST).write_text(json.dumps(manifest))
    assert read_finished(finished, PATH, 3) is None


def test_finished_results_are_not_found_for_another_number_of_rows(finished: Path) -> None:
    assert read_finished(finished, PATH, 2) is None
    assert read_finished(finished, PATH, 4) is None


def test_finished_results_are_not_found_where_the_parquet_was_altered(finished: Path) -> None:
    data = bytearray((finished / PATH).read_bytes())
    data[len(data) // 2] ^= 1
    (finished / PATH).write_bytes(data)
    assert read_finished(finished, PATH, 3) is None


@pytest.mark.parametrize("name", [PATH, CARD, MANIFEST])
def test_finished_results_are_not_found_where_a_file_is_missing(finished: Path, name: str) -> None:
    (finished / name).unlink()
    assert read_finished(finished, PATH, 3) is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"files": [], "counts": {}}', '{"files": [{}], "counts": {"rows": 3}}', "[" * 100_000],
)
def test_finished_results_are_not_found_where_the_manifest_is_damaged(finished: Path, text: str) -> None:
    (finished / MANIFEST).write_text(text)
    assert read_finished(finished, PATH, 3) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"files": []},
        {"files": [{"path": "data/other.parquet"}]},
        {"files": "none"},
        {"counts": {"rows": 3}},
        {"counts": None},
    ],
)
def test_finished_results_are_not_found_where_the_manifest_says_less_than_it_did(
    finished: Path, changed: dict[str, object]
) -> None:
    """A file that nothing is said of is not held against anything."""
    manifest = json.loads((finished / MANIFEST).read_text())
    (finished / MANIFEST).write_text(json.dumps(manifest | changed))
    assert read_finished(finished, PATH, 3) is None


def test_a_pipe_in_the_place_of_the_manifest_is_not_waited_for(finished: Path) -> None:
    (finished / MANIFEST).unlink()
    os.mkfifo(finished / MANIFEST)
    assert read_finished(finished, PATH, 3) is None


def test_finished_results_are_not_found_where_the_manifest_is_not_text(finished: Path) -> None:
    (finished / MANIFEST).write_bytes(b"\xff\xfe")
    assert read_finished(finished, PATH, 3) is None


@pytest.mark.parametrize("absolute", [True, False])
def test_finished_results_are_not_found_where_the_manifest_names_a_file_elsewhere(finished: Path, absolute: bool) -> None:
    """Whoever can write to the folder could else have any file published that the job can read."""
    elsewhere = finished.parent / "secret"
    elsewhere.write_text("a secret")
    manifest = json.loads((finished / MANIFEST).read_text())
    manifest["files"][0] |= {"path": str(elsewhere) if absolute else "../secret", "sha256": sha256_of(elsewhere)}
    (finished / MANIFEST).write_text(json.dumps(manifest))
    assert read_finished(finished, PATH, 3) is None


@pytest.mark.parametrize("name", [PATH, CARD, MANIFEST])
def test_finished_results_are_not_found_where_a_file_is_a_link(finished: Path, name: str) -> None:
    moved = (finished / name).rename(finished.parent / "moved")
    (finished / name).symlink_to(moved)
    assert (finished / name).is_file()
    assert read_finished(finished, PATH, 3) is None


def test_a_link_in_the_way_of_a_new_file_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "data").mkdir()
    (tmp_path / PATH).with_suffix(".tmp").symlink_to(precious)
    (tmp_path / PATH).symlink_to(precious)
    _write(tmp_path, [answered(0)], [1])
    assert precious.read_text() == "precious"
    assert not (tmp_path / PATH).is_symlink()
    assert pq.read_table(tmp_path / PATH).num_rows == 1
