"""Area `datasets`: files of each kind and folders of them, with cells of every type, odd names and damage."""

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from tests.fuzzing.case import HERE, Case, Put
from tests.fuzzing.damage import BYTES, edits, instead, mistakes

_TEXT = st.text(max_size=12) | st.sampled_from(
    ["", "\0", "a\0b", "\r\n", '"', ",", "\ufeff", "NA", "null", "x" * 5000, "{}", "[1]"]
)
_NAMES = st.sampled_from(
    [
        *[
            "instruction",
            "id",
            "answers",
            "prompt",
            "seed",
            "a.b",
            "a b",
            "Instruction",
            "index",
            "__index_level_0__",
            "label",
            "_data_files",
            "0",
            "text",
            "image",
            "{{",
        ],
        "",
        " ",
        "é",
        "n" * 300,
        "a\nb",
        "instruction ",
    ]
)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.integers(-(2**70), 2**70),
    st.floats(),
    _TEXT,
    st.sampled_from(["2024-01-01", "2024-01-01T00:00:00", "1e5", 2**63, -(2**63), 2**64, 1e400]),
)
_CELLS = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=5,
)


def _four(cells: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(cells, min_size=4, max_size=4)


_TEXTS = st.lists(_TEXT | st.none(), min_size=1, max_size=4)
_ROWS = st.lists(st.dictionaries(_NAMES, _CELLS, max_size=3), max_size=5)
_GOOD_ROWS = st.builds(
    lambda texts, name, cells: [{"instruction": text, name: cell} for text, cell in zip(texts, cells, strict=False)],
    _TEXTS,
    _NAMES,
    st.sampled_from([_TEXT, st.integers(-9, 9), st.floats(), st.booleans(), st.none(), _CELLS]).flatmap(_four),
)


def _lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _raw_lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "surrogatepass")


_JSONL = st.one_of(
    _GOOD_ROWS.map(_lines),
    _GOOD_ROWS.map(_raw_lines),
    _ROWS.map(_lines),
    st.lists(_CELLS, max_size=4).map(_lines),
    st.tuples(_GOOD_ROWS.map(_lines), BYTES).map(b"".join),
    st.sampled_from([1, 900, 100_000]).map(lambda depth: b'{"instruction": ' + b"[" * depth + b"]" * depth + b"}\n"),
    st.just(b'{"instruction": "a", "instruction": "b"}\n'),
    st.just(b'{"instruction": "\\ud800", "id": 1}\n'),
    st.just(b'{"\\ud800": "a", "instruction": "a"}\n'),
    st.just(b'{"instruction": "' + b"x" * 20_000_000 + b'"}\n'),
    _GOOD_ROWS.map(lambda rows: _lines(rows) * 400),
)
_JSON = st.one_of(
    (_GOOD_ROWS | _ROWS | _CELLS).map(lambda value: json.dumps(value).encode()),
    _GOOD_ROWS.map(lambda rows: json.dumps({"version": 1, "data": rows}).encode()),
    _GOOD_ROWS.map(lambda rows: json.dumps(rows, indent=1).encode("utf-16")),
    st.dictionaries(_NAMES, st.lists(_CELLS, max_size=3), max_size=3).map(lambda value: json.dumps(value).encode()),
)
_STRUCT: Any = pa.struct  # the stubs know fewer arguments
_TYPES: list[Any] = [
    *(
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.int8(),
        pa.uint64(),
        pa.float16(),
        pa.float64(),
        pa.bool_(),
        pa.null(),
    ),
    *(
        pa.date32(),
        pa.date64(),
        pa.time64("ns"),
        pa.timestamp("ns"),
        pa.timestamp("us", "UTC"),
        pa.duration("s"),
        pa.decimal128(30, 3),
    ),
    *(
        pa.list_(pa.string()),
        pa.large_list(pa.int32()),
        pa.list_(pa.int8(), 2),
        _STRUCT({"a": pa.string(), "b": pa.list_(pa.int64())}),
    ),
    *(pa.map_(pa.string(), pa.int32()), pa.dictionary(pa.int32(), pa.string()), pa.decimal256(60, 3), pa.binary(4)),
    *(_STRUCT({"bytes": pa.binary(), "path": pa.string()}), pa.list_(pa.list_(pa.float32())), pa.month_day_nano_interval()),
]
_METADATA = st.sampled_from(
    [
        b"",
        b"{",
        b"[]",
        b'{"info": {"features": {}}}',
        b'{"info": {"features": {"instruction": {"dtype": "int64", "_type": "Value"}}}}',
        b'{"info": {"features": {"instruction": {"_type": "Image"}}}}',
        b'{"info": {"features": {"x": {"_type": "os.system"}}}}',
        b'{"info": null}',
    ]
)


def _column(kind: Any, rows: int) -> Any:
    """Some values of this type, nulls where none of ours is one."""
    samples: list[Any] = [
        "a",
        b"abcd",
        1,
        1.5,
        True,
        [1, 2],
        ["x", "y"],
        {"a": "x", "b": [1]},
        [("k", 1)],
        [[1.0]],
        {"bytes": b"x", "path": "p"},
    ]
    for sample in samples:
        try:
            return pa.array([sample, None, *[sample] * rows][:rows], kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError):
            continue
    return pa.nulls(rows, kind)


@st.composite
def _parquet(draw: st.DrawFn) -> bytes:
    texts = draw(_TEXTS)
    arrays: list[Any] = [pa.array([text.encode("utf-8", "replace").decode() if text else text for text in texts])]
    names = ["instruction"]
    for kind, name in draw(st.lists(st.tuples(st.sampled_from(_TYPES), _NAMES), max_size=3)):
        arrays.append(_column(kind, len(texts)))
        names.append(name)
    if draw(st.integers(0, 4)) == 0:
        arrays[0] = _column(draw(st.sampled_from(_TYPES)), len(texts))
    metadata: Any = {b"huggingface": draw(_METADATA)} if draw(st.booleans()) else None
    file = io.BytesIO()
    compression: Any = draw(st.sampled_from(["snappy", "none", "zstd", "gzip", "brotli", "lz4"]))
    try:
        table = pa.Table.from_arrays(
            arrays, schema=pa.schema([(name, array.type) for name, array in zip(names, arrays, strict=True)], metadata)
        )
        pq.write_table(table, file, compression=compression, use_dictionary=draw(st.booleans()), row_group_size=2)
    except (pa.ArrowException, ValueError):  # a type that Parquet does not have
        file = io.BytesIO()
        pq.write_table(pa.table({"instruction": ["a"]}), file)
    return file.getvalue()


_CSV = st.one_of(
    st.builds(
        lambda names, rows, end, cell: end.join(
            [",".join(names), *(",".join([cell] * len(names)) for _ in range(rows))]
        ).encode("utf-8", "replace"),
        st.lists(_NAMES, min_size=1, max_size=4),
        st.integers(0, 4),
        st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
        st.sampled_from(["a", "1", '"a,b"', '"a\nb"', '"', "", "1e400", "9" * 40, "\0", "true"]) | _TEXT,
    ),
    st.just(b"instruction,id\na,1\n" * 3000),
    st.just(b"instruction\n" + b"x" * 20_000_000 + b"\n"),
    st.tuples(st.just(b"instruction\n"), BYTES).map(b"".join),
)
_CONTENTS = {".jsonl": _JSONL, ".json": _JSON, ".parquet": _parquet(), ".csv": _CSV}
_VARIABLES = st.lists(
    st.sampled_from(
        [
            ("MAX_FAILED_ROWS", "9"),
            ("MAX_FAILED_ROWS", "9"),
            ("MAX_ROWS", "1"),
            ("DROP_COLUMNS", "id"),
            ("DROP_COLUMNS", "answers,prompt,seed"),
        ]
        + [("INSTRUCTION_COLUMN", name) for name in ("id", "text", "é", "a.b")]
        + [
            ("NUM_SAMPLES", "2"),
            ("DATASET_SPLIT", "train"),
            ("PROMPT_TEMPLATE", "chat"),
            ("DATASET_CONFIG", "x"),
            ("DRY_RUN", "true"),
        ]
    ),
    max_size=2,
)
_FILE_NAMES = ["test", "train", "data/test-00000-of-00001", "test-1", "a", "test/a b", "über", "x[1]", ".hidden", "validation"]
_OTHERS = ["README.md", "dataset_infos.json", "metadata.jsonl", "a.txt", "a.py", "data.zip", "dataset_dict.json", "state.json"]
_CARDS = st.one_of(
    BYTES,
    st.sampled_from(
        [
            b"---\n{\n---\n",
            b"---\nconfigs: 1\n---\n",
            b"---\nconfigs:\n- config_name: x\n  data_files: '*.csv'\n---\n",
            b"---\n- a\n---\n",
            b"---\ndataset_info:\n  features: 3\n---\n",
            b"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: test\n    path: ../*\n---\n",
            b"---\ndataset_info:\n  features:\n  - name: instruction\n    dtype: nosuch\n---\n",
            b"---\n&a [*a]\n---\n",
            b"---\nconfigs:\n- {}\n---\n",
        ]
    ),
)


@st.composite
def _single(draw: st.DrawFn) -> Case:
    suffix = draw(st.sampled_from(sorted(_CONTENTS)))
    other = draw(st.integers(0, 9)) == 0  # what the name does not say
    path = f"rows{suffix}"
    content = draw(_CONTENTS[draw(st.sampled_from(sorted(_CONTENTS))) if other else suffix])
    damage = draw(st.one_of(st.just([]), st.lists(edits(path), min_size=1, max_size=3), instead(path).map(lambda put: [put])))
    return Case("datasets", (("DATASET_ID", f"{HERE}/{path}"), *draw(_VARIABLES)), (Put(path, "file", content), *damage))


@st.composite
def _folder(draw: st.DrawFn) -> Case:
    steps: list[Any] = [Put("data", "folder")]
    for name in draw(st.lists(st.sampled_from(_FILE_NAMES), max_size=3, unique=True)):
        suffix = draw(st.sampled_from(sorted(_CONTENTS)))
        path = f"data/{name}{suffix}"
        steps.append(Put(path, "file", draw(_CONTENTS[suffix])))
        if draw(st.integers(0, 3)) == 0:
            steps.append(draw(mistakes(path)))
    if draw(st.booleans()):
        steps.append(Put(f"data/{draw(st.sampled_from(_OTHERS))}", "file", draw(_CARDS)))
    return Case("datasets", (("DATASET_ID", f"{HERE}/data"), *draw(_VARIABLES)), tuple(steps))


def cases() -> st.SearchStrategy[Case]:
    return st.one_of(_single(), _single(), _folder())
