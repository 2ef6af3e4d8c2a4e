"""Area `run folders`: what an earlier process left, damaged."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.fuzzing.case import Case, Put, Statement, Step
from tests.fuzzing.damage import BYTES, edits, mistakes
from tests.fuzzing.verdict import OUTPUT
from tests.support import journal_of, parquet_bytes, results_folder, write_jsonl

ROWS, HALF = 5, 3
STARTS = ("finished", "half", "hot", "killed")
_SHARD = "shard-00000-of-00001"


def make_starts(folder: Path, run: Callable[[Mapping[str, object]], None]) -> tuple[dict[str, Path], Path, bytes]:
    """Folders that runs left behind, by name; the dataset of all of them; and the results of an undisturbed run.

    run: starts the job with these variables, to its end.
    """
    rows = [{"instruction": f"Tell me about the number {number}. " * 9 * (1 + number), "id": number} for number in range(ROWS)]
    data = write_jsonl(folder / "rows.jsonl", rows)
    finished, half = folder / "finished", folder / "half"
    run({"DATASET_ID": data, "OUTPUT_DIR": finished / OUTPUT})
    run({"DATASET_ID": data, "OUTPUT_DIR": half / OUTPUT, "MAX_ROWS": HALF})
    _unfinished(half)
    hot, killed = folder / "hot", folder / "killed"
    shutil.copytree(half, hot, symlinks=True)
    _interrupted(hot, finished)
    shutil.copytree(half, killed, symlinks=True)
    _left_a_note(killed)
    return {name: folder / name for name in STARTS}, data, parquet_bytes(results_folder(finished / OUTPUT))


def _unfinished(start: Path) -> None:
    run = results_folder(start / OUTPUT)
    shutil.rmtree(run / "data")
    for name in ("run.json", "README.md"):
        (run / name).unlink()
    (run.parent / "latest").unlink()


def _interrupted(start: Path, finished: Path) -> None:
    """The rows that are missing, in a transaction that was being written to the database."""
    journal, whole = journal_of(start / OUTPUT), journal_of(finished / OUTPUT)
    assert journal
    assert whole
    with closing(sqlite3.connect(whole)) as connection:
        rows = connection.execute("SELECT * FROM finished WHERE position >= ?", (HALF,)).fetchall()
    work = start / "work.sqlite"
    shutil.copyfile(journal, work)
    with closing(sqlite3.connect(work)) as connection:
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA cache_size = 1")  # pages are written to the file before the commit
        connection.executemany("INSERT INTO finished VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.execute("CREATE TABLE filler(text TEXT)")
        connection.executemany("INSERT INTO filler VALUES (?)", [("x" * 3000,)] * 30)
        shutil.copyfile(work, journal)
        shutil.copyfile(f"{work}-journal", f"{journal}-journal")
        connection.rollback()
    for left in start.glob("work.sqlite*"):
        left.unlink()


def _left_a_note(start: Path) -> None:
    journal = journal_of(start / OUTPUT)
    assert journal
    note = {"holder": "process 4711 on elsewhere", "kernel": "another", "device": 7, "token": "0123456789abcdef", "beat": 3}
    (journal.parent / "holder.json").write_bytes(json.dumps(note).encode().ljust(512))


def _place(run: str) -> Mapping[str, str]:
    """The files of a run folder, by a short name."""
    return {
        "journal": f"{run}/{_SHARD}/journal.sqlite",
        "rollback": f"{run}/{_SHARD}/journal.sqlite-journal",
        "lock": f"{run}/{_SHARD}/lock",
        "note": f"{run}/{_SHARD}/holder.json",
        "shard": f"{run}/{_SHARD}",
        "identity": f"{run}/identity.json",
        "identity, half made": f"{run}/identity.json.tmp",
        "engine": f"{run}/engine.json",
        "manifest": f"{run}/run.json",
        "published": f"{run}/published.json",
        "card": f"{run}/README.md",
        "account": f"{run}/spent.json",
        "images": f"{run}/images",
        "plot": f"{run}/images/default/test-lengths.png",
        "data": f"{run}/data",
        "parquet": f"{run}/data/test-00000-of-00001.parquet",
        "parquet, half made": f"{run}/data/test-00000-of-00001.tmp",
        "latest": f"{run.rpartition('/')[0]}/latest",
        "latest, half made": f"{run.rpartition('/')[0]}/latest.tmp",
        "run": run,
        "wal": f"{run}/{_SHARD}/journal.sqlite-wal",
        "shm": f"{run}/{_SHARD}/journal.sqlite-shm",
    }


_CHANGES: Sequence[str] = (
    "UPDATE finished SET completions = '[{{' WHERE position = {n}",
    "UPDATE finished SET completions = x'{blob}' WHERE position = {n}",
    "UPDATE finished SET completions = '[]'",
    "UPDATE finished SET prompt = NULL WHERE position = {n}",
    "UPDATE finished SET prompt = x'ff00' WHERE position = {n}",
    "UPDATE finished SET prompt = 7",
    "UPDATE finished SET answered = 0 WHERE position = {n}",
    "UPDATE finished SET answered = 'yes'",
    "UPDATE finished SET answered = x'00' WHERE position = {n}",
    "UPDATE finished SET prompt_tokens = 'many'",
    "UPDATE finished SET prompt_tokens = 1e300 WHERE position = {n}",
    "UPDATE finished SET checksum = x'00'",
    "UPDATE finished SET checksum = {big} WHERE position = {n}",
    "UPDATE finished SET position = position + {n} + 1",
    "UPDATE finished SET position = -1 - position WHERE position >= {n}",
    "UPDATE finished SET position = {big} WHERE position = {n}",
    "INSERT INTO finished VALUES (-1, 1, 'p', 1, '[]', 0)",
    "INSERT INTO finished VALUES (-{big}, 1, 'p', 1, '[]', 0)",
    "INSERT INTO finished VALUES ({big}, 1, 'p', 1, '[]', 0)",
    "INSERT INTO finished VALUES (5, 1, 'p', 1, '[]', 0)",
    "INSERT OR REPLACE INTO finished VALUES ({n}, 1, 'p', 1, '[]', 0)",
    "INSERT INTO finished SELECT position + 100, answered, prompt, prompt_tokens, completions, checksum FROM finished",
    "DELETE FROM finished WHERE position = {n}",
    "DELETE FROM finished",
    "DELETE FROM run",
    "INSERT INTO run VALUES ('x')",
    "UPDATE run SET identity = x'00'",
    "UPDATE run SET identity = {big}",
    "UPDATE run SET identity = upper(identity)",
    "DROP TABLE finished",
    "DROP TABLE run",
    "ALTER TABLE finished RENAME COLUMN checksum TO sum",
    "ALTER TABLE finished ADD COLUMN more",
    "ALTER TABLE run ADD COLUMN more",
    "DROP TABLE finished; CREATE TABLE finished(position, answered, prompt, prompt_tokens, completions, checksum)",
    "CREATE TABLE f AS SELECT * FROM finished UNION ALL SELECT * FROM finished; DROP TABLE finished; {rename}",
    "CREATE TABLE f AS SELECT * FROM finished; DROP TABLE finished; CREATE VIEW finished AS SELECT * FROM f",
    "CREATE TRIGGER t BEFORE INSERT ON finished BEGIN SELECT RAISE(ABORT, 'no'); END",
    "CREATE TRIGGER t AFTER INSERT ON finished BEGIN DELETE FROM finished; END",
    "CREATE TRIGGER t BEFORE INSERT ON finished BEGIN SELECT RAISE(IGNORE); END",
    "CREATE TABLE other(a); INSERT INTO other VALUES (zeroblob(100000))",
    "CREATE INDEX i ON finished(answered)",
    "PRAGMA application_id = {n}",
    "PRAGMA user_version = {n}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA page_size = 512; VACUUM",
    "PRAGMA encoding = 'UTF-16'; VACUUM",
    "PRAGMA auto_vacuum = 1; VACUUM",
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage = {n}",
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = 'x'",
    "PRAGMA writable_schema = ON; DELETE FROM sqlite_master",
)
_STATEMENTS = st.builds(
    lambda sql, n, big, blob: sql.format(n=n, big=big, blob=blob.hex(), rename="ALTER TABLE f RENAME TO finished"),
    st.sampled_from(_CHANGES),
    st.integers(0, ROWS - 1),
    st.sampled_from([2**31, 2**32, 2**53, 2**63 - 1]),
    st.binary(max_size=4),
)
_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
_DEPTHS = st.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, b'{"files": ' + b"[" * 50_000])


def _holding(entry: Path) -> dict[str, Any]:
    return json.loads(entry.read_text()) if entry.is_file() else {}


@st.composite
def _changed_json(draw: st.DrawFn, path: str, values: Mapping[str, Any]) -> Step:
    """A JSON file with another value somewhere, or something missing."""
    changed = json.loads(json.dumps(values))
    inner = changed
    while isinstance(inner, dict | list) and inner:
        keys = sorted(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = draw(st.sampled_from(keys))
        if not isinstance(inner[key], dict | list) or draw(st.integers(0, 2)) == 0:
            if draw(st.booleans()):
                inner[key] = draw(_JSON)
            else:
                del inner[key]
            break
        inner = inner[key]
    if draw(st.integers(0, 5)) == 0 and isinstance(inner, dict):
        inner[draw(st.text(max_size=4))] = draw(_JSON)
    return Put(path, "file", json.dumps(changed).encode())


def cases(starts: Mapping[str, Path]) -> st.SearchStrategy[Case]:
    """starts: as `make_starts` made them."""
    run = results_folder(starts["finished"] / OUTPUT)
    place = _place(run.relative_to(starts["finished"]).as_posix())
    manifest = _holding(run / "run.json")

    @st.composite
    def draw_case(draw: st.DrawFn) -> Case:
        start = draw(st.sampled_from(STARTS))
        journal, rollback = place["journal"], place["rollback"]
        rows = st.builds(Statement, st.just(journal), _STATEMENTS)
        damage: list[st.SearchStrategy[Step]] = [
            *[edits(journal)] * 4,
            *[rows] * 4,
            st.sampled_from(sorted(place.values())).flatmap(mistakes),
            st.sampled_from(sorted(place.values())).flatmap(mistakes),
            _changed_json(place["manifest"], manifest),
            st.builds(
                Put,
                st.sampled_from([place[name] for name in ("manifest", "engine", "note", "published")]),
                st.just("file"),
                _DEPTHS | BYTES | _JSON.map(lambda value: json.dumps(value).encode()),
            ),
            edits(place["parquet"]),
        ]
        if start == "hot":
            damage += [edits(rollback)] * 6
        if start == "killed":
            damage += [mistakes(place["note"])] * 3
        steps: list[Step] = draw(st.lists(st.one_of(damage), min_size=1, max_size=3))
        if start == "finished" and draw(st.booleans()):  # the results are to be made again
            steps.append(Put(place["manifest"], "nothing"))
        return Case("run folders", (), tuple(steps), start)

    return draw_case()
