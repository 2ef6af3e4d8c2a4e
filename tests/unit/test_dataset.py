import io
import os
import pickle
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from job.dataset import CHUNK_ROWS, SourceRows, check_files, check_instruction_column, dataset_info, extended, open_rows
from job.dataset.files import check_json
from job.dataset.refusals import errors_named, no_room_named
from job.errors import DatasetError, HubUnavailableError, JobError, OutputError, StoppedError
from job.records import DataFile, Row, Source
from job.references import content_digest
from job.settings import DataSettings
from tests.support import write_jsonl
from tests.unit.builders import settings

COLUMNS: dict[str, pa.DataType] = {"instruction": pa.string(), "id": pa.int64()}
SCHEMA = pa.schema(COLUMNS)


def _stream_files(folder: Path, cuts: Sequence[Sequence[int]]) -> tuple[Path, ...]:
    """Arrow files as `datasets` makes them: numbered rows, one batch for each size in a file's list."""
    position, files = 0, []
    for number, sizes in enumerate(cuts):
        path = folder / f"{number}.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as writer:
            for size in sizes:
                ids = range(position, position + size)
                writer.write_batch(pa.record_batch([[f"text {i}" for i in ids], list(ids)], schema=SCHEMA))
                position += size
        files.append(path)
    return tuple(files)


@effort(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(0, 1500), max_size=4), min_size=1, max_size=3), st.integers(1, 5000))
def test_tables_do_not_depend_on_how_the_files_were_cut(cuts: list[list[int]], max_rows: int) -> None:
    rows = min(sum(map(sum, cuts)), max_rows)
    with tempfile.TemporaryDirectory() as folder:
        tables = list(SourceRows(rows, SCHEMA, _stream_files(Path(folder), cuts)).tables())
    whole, rest = divmod(rows, CHUNK_ROWS)
    assert [table.num_rows for table in tables] == [CHUNK_ROWS] * whole + [rest] * bool(rest)
    assert [number for table in tables for number in table["id"].to_pylist()] == list(range(rows))


def test_tables_have_the_chosen_columns_in_the_chosen_order(tmp_path: Path) -> None:
    (table,) = SourceRows(2, SCHEMA, _stream_files(tmp_path, [[3]])).tables(["id", "instruction"])
    assert table.to_pydict() == {"id": [0, 1], "instruction": ["text 0", "text 1"]}


def test_rows_are_numbered_over_chunks(tmp_path: Path) -> None:
    rows = list(SourceRows(CHUNK_ROWS + 2, SCHEMA, _stream_files(tmp_path, [[700, 700]])))
    assert [row.position for row in rows] == list(range(CHUNK_ROWS + 2))
    assert rows[CHUNK_ROWS + 1].columns == {"instruction": f"text {CHUNK_ROWS + 1}", "id": CHUNK_ROWS + 1}


def test_rows_can_be_selected_without_any_column(tmp_path: Path) -> None:
    assert list(SourceRows(2, SCHEMA, _stream_files(tmp_path, [[2]])).select([])) == [Row(0, {}), Row(1, {})]


def _open(path: Path, **variables: object) -> SourceRows:
    found = settings(DATASET_ID=path, **variables).data
    return open_rows(found, Source(str(path), "sha256:0", local=True))


def _refusal(path: Path, **variables: object) -> str:
    with pytest.raises(DatasetError) as caught:
        _open(path, **variables)
    return str(caught.value)


def test_a_jsonl_file_is_read_with_its_text_as_written(tmp_path: Path) -> None:
    texts = ["  kept \n", "é😀\u2028", "", "NA"]
    path = write_jsonl(tmp_path / "rows.jsonl", [{"instruction": text, "id": i} for i, text in enumerate(texts)])
    rows = _open(path)
    assert rows.rows == 4
    assert rows.schema.names == ["instruction", "id"]
    assert [row.columns["instruction"] for row in rows] == texts


def test_a_csv_file_keeps_words_that_look_like_nulls(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('instruction,note\nNA,x\nnull,"a ""quoted"", cell"\n,y\n', encoding="utf-8")
    assert [row.columns for row in _open(path)] == [
        {"instruction": "NA", "note": "x"},
        {"instruction": "null", "note": 'a "quoted", cell'},
        {"instruction": None, "note": "y"},
    ]


def test_a_parquet_file_gives_the_first_max_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"instruction": [str(i) for i in range(10)]}), path, row_group_size=3)
    rows = _open(path, MAX_ROWS=4)
    assert rows.rows == 4
    assert [row.columns["instruction"] for row in rows] == ["0", "1", "2", "3"]
    assert _open(path, MAX_ROWS=99).rows == 10


def test_a_folder_gives_its_split_and_names_the_others(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [{"instruction": "a"}])
    write_jsonl(tmp_path / "test.jsonl", [{"instruction": "b"}, {"instruction": "c"}])
    assert [row.columns["instruction"] for row in _open(tmp_path)] == ["b", "c"]
    refusal = _refusal(tmp_path, DATASET_SPLIT="dev")
    assert refusal.startswith("DATASET_SPLIT=dev: ")
    assert "train" in refusal
    assert "test" in refusal


def test_a_dropped_column_that_does_not_exist_is_refused_with_those_that_do(three_rows: Path) -> None:
    assert _refusal(three_rows, DROP_COLUMNS="id,idx") == "DROP_COLUMNS=idx: no such column. The columns are: instruction, id."


def test_a_csv_file_with_a_header_only_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.csv"
    path.write_text("instruction,id\n")
    assert _refusal(path).startswith(f"DATASET_ID={path}: split test has no rows.")


def test_a_parquet_file_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.parquet"
    pq.write_table(pa.table({"instruction": pa.array([], pa.string())}), path)
    assert _refusal(path).startswith(f"DATASET_ID={path}: split test has no rows.")


def test_a_text_that_is_not_utf8_is_refused_with_its_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"instruction": "caf\xe9", "id": 1}\n')
    with pytest.raises(DatasetError, match=r"column instruction of the dataset: Invalid UTF8.* Save the dataset as UTF-8"):
        list(_open(path))


def test_a_file_that_is_damaged_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "a"}\n{oops\n', encoding="utf-8")
    assert _refusal(path).startswith(f"DATASET_ID={path}: cannot be read: ")


def test_a_missing_file_is_refused_with_its_neighbours(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{}])
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DatasetError) as caught:
        check_files(str(tmp_path / "row.jsonl"))
    assert (
        str(caught.value) == f"DATASET_ID={tmp_path}/row.jsonl: no such file or folder. The folder {tmp_path} has: rows.jsonl."
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.xlsx", "x", ".xlsx suffix; readable are .csv, .json, .jsonl, .parquet."),
        ("rows", "x", "no suffix; readable are .csv, .json, .jsonl, .parquet."),
        ("rows.csv", "", "the file is empty."),
    ],
)
def test_a_file_of_no_use_is_refused_with_the_reason(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DatasetError) as caught:
        check_files(str(tmp_path / name))
    assert str(caught.value) == f"DATASET_ID={tmp_path / name}: {message}"


def test_the_instruction_column_has_to_exist() -> None:
    with pytest.raises(DatasetError) as caught:
        check_instruction_column(settings(INSTRUCTION_COLUMN="question").data, SCHEMA)
    assert str(caught.value) == "INSTRUCTION_COLUMN=question: no such column. The columns are: instruction, id."


def test_the_instruction_column_has_to_be_text() -> None:
    with pytest.raises(DatasetError, match="INSTRUCTION_COLUMN=id: holds int64, not text"):
        check_instruction_column(settings(INSTRUCTION_COLUMN="id").data, SCHEMA)
    check_instruction_column(settings().data, SCHEMA)
    check_instruction_column(settings().data, pa.schema({"instruction": pa.large_string()}))


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (OSError(28, "No space left on device"), OutputError, "cannot be written to the cache (HF_HOME)"),
        (ValueError('Unknown split "x". Should be one of [train]'), DatasetError, "DATASET_SPLIT=test: Unknown split"),
        (ValueError("BuilderConfig 'x' not found"), DatasetError, "DATASET_CONFIG=: BuilderConfig 'x' not found"),
        (FileNotFoundError(2, "gone"), DatasetError, "DATASET_ID=org/data: cannot be read: FileNotFoundError"),
    ],
)
def test_an_error_of_the_library_is_translated(error: Exception, kind: type[JobError], message: str) -> None:
    with pytest.raises(kind) as caught, errors_named(settings().data):
        raise error
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [StoppedError("stopped by SIGTERM"), HubUnavailableError("the Hub answered 503")])
def test_an_error_of_the_job_passes_as_it_is(error: JobError) -> None:
    with pytest.raises(type(error)) as caught, errors_named(settings().data):
        raise error
    assert caught.value is error


def test_the_cause_is_what_a_damaged_file_is_reported_with() -> None:
    with pytest.raises(DatasetError) as caught, errors_named(settings().data):
        raise RuntimeError("an error occurred") from ValueError("line 7 is no JSON")
    assert str(caught.value).startswith("DATASET_ID=org/data: cannot be read: ValueError: line 7 is no JSON")


def _features(schema: pa.Schema) -> Any:
    from datasets import Features

    return Features.from_arrow_schema(schema)


def test_the_extended_schema_keeps_the_source_features() -> None:
    from datasets import ClassLabel, Features, Value

    source = Features({"instruction": Value("large_string"), "label": ClassLabel(names=["no", "yes"]), "id": Value("int8")})
    added = pa.schema({"answers": pa.list_(pa.string()), "seed": pa.int64()})
    schema = extended(source.arrow_schema, ["label", "instruction"], added)
    assert schema.names == ["label", "instruction", "answers", "seed"]
    assert _features(schema)["label"] == ClassLabel(names=["no", "yes"])
    assert schema.field("instruction").type == pa.large_string()
    assert schema.field("answers").type == pa.list_(pa.string())


def test_the_dataset_info_adds_the_files_up() -> None:
    files = [DataFile("data/a.parquet", 3, 100, 1000, "x"), DataFile("data/b.parquet", 4, 200, 2000, "y")]
    info = dataset_info(SCHEMA, "test", files)
    assert info["splits"] == [{"name": "test", "num_bytes": 3000, "num_examples": 7}]
    assert info["download_size"] == 300
    assert info["dataset_size"] == 3000
    assert info["features"] == [{"name": "instruction", "dtype": "string"}, {"name": "id", "dtype": "int64"}]


def test_a_file_that_changed_within_its_time_of_change_is_read_anew(tmp_path: Path) -> None:
    def instructions(text: str) -> list[object]:
        file = write_jsonl(tmp_path / "rows.jsonl", [{"instruction": text}])
        os.utime(file, (1_700_000_000, 1_700_000_000))
        source = Source(str(file), f"sha256:{content_digest(file)}", local=True)
        rows = open_rows(DataSettings.from_env({"DATASET_ID": str(file)}), source)
        return [row.columns["instruction"] for row in rows.select(["instruction"])]

    assert instructions("AAA") == ["AAA"]
    assert instructions("BBB") == ["BBB"]


def test_a_path_with_characters_of_a_pattern_is_that_file_alone(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "g1.jsonl", [{"instruction": "wrong"}])
    file = write_jsonl(tmp_path / "g[1].jsonl", [{"instruction": "right"}])
    rows = open_rows(DataSettings.from_env({"DATASET_ID": str(file)}), Source(str(file), "sha256:" + "0" * 64, local=True))
    assert [row.columns["instruction"] for row in rows.select(["instruction"])] == ["right"]
    (tmp_path / "d[1]").mkdir()
    with pytest.raises(DatasetError, match="rename it"):
        check_files(str(tmp_path / "d[1]"))


def test_a_disk_without_room_is_no_mistake_of_the_dataset() -> None:
    with pytest.raises(OutputError, match=r"No space left on device\. Make room there"):  # noqa: SIM117
        with errors_named(settings(DATASET_ID="a.jsonl").data), no_room_named():
            raise OSError("Not enough disk space. Needed: 1 GB")


@pytest.mark.parametrize("nested", [False, True])
def test_images_that_are_mere_paths_are_refused_and_those_that_are_there_are_kept(nested: bool, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    image = datasets.List(datasets.Image()) if nested else datasets.Image()
    features = datasets.Features({"instruction": datasets.Value("string"), "image": image})

    def opened(content: bytes | None, path: str = str(secret), **more: object) -> SourceRows:
        value = {"bytes": content, "path": path}
        table = pa.Table.from_pylist(
            [{"instruction": "a", "image": [value] if nested else value}], schema=features.arrow_schema
        )
        file = tmp_path / f"{content is None}.parquet"
        pq.write_table(table, file)
        data = settings(DATASET_ID=file, **more).data
        return open_rows(data, Source(str(file), f"sha256:{content_digest(file)}", local=True))

    assert opened(b"x").rows == 1
    assert opened(None, "https://example.com/a.png").rows == 1
    assert opened(None, DROP_COLUMNS="image").rows == 1
    with pytest.raises(DatasetError, match=r"column image holds paths of files .* Leave it out with DROP_COLUMNS=image, or"):
        opened(None)


class _Payload:
    """Makes a file where it is read from pickle."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._mark,)


def _tar(content: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for suffix in ("pickle", "pyd", "pth"):
            entry = tarfile.TarInfo(f"row.{suffix}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


CARD = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: test\n    path: {}\n---\n"


TAR = pytest.param("test.tar", marks=pytest.mark.slow)  # datasets imports torch to read it


@pytest.mark.parametrize("name", ["test.pkl", "test.pickle", "test.pt", "test.npy", TAR, "loading.py"])
@pytest.mark.parametrize("card", [False, True])
def test_nothing_in_a_dataset_runs_code(tmp_path: Path, name: str, card: bool) -> None:
    folder, mark = tmp_path / "loading", tmp_path / "it-ran"
    folder.mkdir()
    payload = pickle.dumps(_Payload(mark), protocol=2)
    script = f"open({str(mark)!r}, 'w')".encode()
    (folder / name).write_bytes({".py": script, ".tar": _tar(payload)}.get(Path(name).suffix, payload))
    if card:
        (folder / "README.md").write_text(CARD.format(name))
    source = Source(str(folder), f"sha256:{content_digest(folder)}", local=True)
    with pytest.raises(DatasetError, match=r"cannot be read: .*Mend it, or give another DATASET_ID"):
        open_rows(settings(DATASET_ID=folder).data, source)
    if name != "loading.py":
        with pytest.raises(DatasetError, match="suffix; readable are"):
            check_files(str(folder / name))
    assert not mark.exists()
    if name != "loading.py":
        pickle.loads(payload)
        assert mark.exists()


@pytest.mark.parametrize("name", ["rows.jsonl", "data/test.json"])
def test_json_that_its_reader_would_crash_on_is_refused(tmp_path: Path, name: str) -> None:
    """At this depth pyarrow fills the stack: the process would end by a signal, without a word."""
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text('{"instruction": "a"}\n{"instruction": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    source = file.parent if file.parent != tmp_path else file
    with pytest.raises(DatasetError, match=f"DATASET_ID={file}: line 2 is nested more than 500 levels deep"):
        check_json(source)


@pytest.mark.parametrize("text", ["null", "\ufeff null\n", 'null\n{"instruction": "a"}\n'])
def test_json_that_begins_with_null_is_refused(tmp_path: Path, text: str) -> None:
    """Pyarrow's reader ends the process by a signal there too."""
    file = tmp_path / "rows.jsonl"
    file.write_text(text)
    with pytest.raises(DatasetError, match=f"DATASET_ID={file}: line 1 is null and no row: a row is a JSON object"):
        check_json(file)


def test_brackets_in_texts_and_side_by_side_are_no_nesting(tmp_path: Path) -> None:
    row = {"instruction": '[{"' * 1000 + "\\", "list": [[1]] * 1000}
    check_json(write_jsonl(tmp_path / "rows.jsonl", [row, row]))
