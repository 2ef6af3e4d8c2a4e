"""A dataset in local files: which are there, and how `datasets` is to read them."""

import glob
import re
from pathlib import Path
from typing import Any

from job.errors import DatasetError
from job.files import open_file
from job.references import DATA_SUFFIXES
from job.settings import DataSettings

READERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}
_DEEPEST = 500  # levels: pyarrow's reader of JSON calls itself for each, until the stack is full
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)
_BEGINS_WITH_NULL = re.compile(rb"(\xef\xbb\xbf)?\s*null")
_STEPS = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
# pandas, under the CSV reader, turns words such as "NA" and "null" into missing values: only an empty cell is one here.
CSV_OPTIONS = {"keep_default_na": False, "na_values": [""]}


def check_files(reference: str) -> Path:
    """The path of a local dataset.

    Raises: DatasetError where it is missing or of a kind that cannot be read.
    """
    path = Path(reference).expanduser()
    if not path.exists():
        raise DatasetError(f"DATASET_ID={reference}: no such file or folder.{_neighbours(path)}")
    if path.is_dir() and glob.has_magic(str(path)):
        raise DatasetError(f"DATASET_ID={reference}: `datasets` takes *, ? and [ in a folder's path for patterns: rename it.")
    if path.is_file() and path.suffix not in DATA_SUFFIXES:
        raise DatasetError(
            f"DATASET_ID={reference}: {path.suffix or 'no'} suffix; readable are {', '.join(sorted(DATA_SUFFIXES))}."
        )
    if path.is_file() and not path.stat().st_size:
        raise DatasetError(f"DATASET_ID={reference}: the file is empty.")
    return path


def check_json(path: Path) -> None:
    """Raises: DatasetError where a JSON file, or one of a folder's, would crash its reader."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if READERS.get(file.suffix) == "json" and file.is_file():
            with open_file(file) as lines:
                for number, line in enumerate(lines, start=1):
                    if number == 1 and _BEGINS_WITH_NULL.match(line):
                        raise DatasetError(f"DATASET_ID={file}: line 1 is null and no row: a row is a JSON object.")
                    if line.count(b"[") + line.count(b"{") > _DEEPEST and _depth(line) > _DEEPEST:
                        raise DatasetError(f"DATASET_ID={file}: line {number} is nested more than {_DEEPEST} levels deep.")


def _depth(line: bytes) -> int:
    """The deepest level of a JSON text."""
    depth = deepest = 0
    for token in _TOKENS.finditer(line):
        depth += _STEPS.get(token[0], 0)
        deepest = max(deepest, depth)
    return deepest


def _neighbours(path: Path) -> str:
    folder = path.parent
    data = sorted(file.name for file in folder.iterdir() if file.suffix in DATA_SUFFIXES) if folder.is_dir() else []
    return f" The folder {folder.resolve()} has: {', '.join(data[:10])}." if data else ""


def local_arguments(settings: DataSettings) -> dict[str, Any]:
    """What `load_dataset` is to be called with. Raises: DatasetError, as check_files does."""
    path = check_files(settings.dataset_id)
    if path.is_dir():
        return {"path": str(path)}
    options = CSV_OPTIONS if path.suffix == ".csv" else {}
    return {"path": READERS[path.suffix], "data_files": {settings.dataset_split: glob.escape(str(path))}, **options}
