import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from job.errors import OutputError, RunLockedError
from job.identity import Identity
from job.journal import Journal, Positions
from job.records import Completion, ResultRow
from tests.support import ROOT
from tests.unit.builders import answered, failed

IDENTITY = Identity({"model": "one"})
# A process that holds the lock of the folder in its argument, with one row written, until it is ended.
HOLDER = """
import sys
from pathlib import Path
from job.identity import Identity
from job.journal import Journal
from job.records import Completion, ResultRow
with Journal(Path(sys.argv[1]), Identity({"model": "one"})) as journal, journal.writer() as writer:
    writer.append(ResultRow(3, "p", 1, (Completion(3, 0, "by the other process", "stop", 1),)))
    while not writer.safe_rows:
        pass
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextmanager
def _holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def _lock_is_free(folder: Path) -> bool:
    """Whether another process would get the lock."""
    attempt = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    return subprocess.run([sys.executable, "-S", "-c", attempt, folder / "lock"], stderr=subprocess.DEVNULL).returncode == 0


def _write(folder: Path, *rows: ResultRow) -> None:
    with Journal(folder, IDENTITY) as journal:
        _append(journal, rows)


def _append(journal: Journal, rows: Iterable[ResultRow]) -> None:
    with journal.writer() as writer:
        for row in rows:
            writer.append(row)


def _read(folder: Path, rows: int = 1000) -> list[ResultRow]:
    with Journal(folder, IDENTITY) as journal:
        return list(journal.rows(range(rows)))


def _ending_with(error: Exception, *rows: ResultRow) -> Iterator[ResultRow]:
    yield from rows
    raise error


def _sql(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "journal.sqlite")) as connection, connection:
        connection.execute(statement)


@effort(max_examples=25, deadline=None)
@given(st.integers(1, 300).flatmap(lambda rows: st.tuples(st.just(rows), st.sets(st.integers(0, rows - 1)))))
def test_positions_are_a_set(given_rows: tuple[int, set[int]]) -> None:
    rows, members = given_rows
    positions = Positions(range(rows))
    for position in [*members, *members]:
        positions.add(position)
    assert {position for position in range(rows) if position in positions} == members
    assert positions.count == len(members)


TEXTS = st.text(max_size=30) | st.sampled_from(
    ["\0", "a\0b", "😀👩‍👩‍👧", "\u2028\x1f\x7f", "'; DROP TABLE finished; --", '"\\', ""]
)
COMPLETIONS = st.tuples(
    TEXTS, st.sampled_from(["stop", "length", "repetition"]), st.integers(0, 2**31 - 1), st.none()
) | st.tuples(st.none(), st.sampled_from(["error", "too_long"]), st.just(0), TEXTS.filter(bool))


@st.composite
def _rows(draw: st.DrawFn) -> list[ResultRow]:
    rows = []
    for position in sorted(draw(st.sets(st.integers(0, 10**6), min_size=1, max_size=20))):
        samples = draw(st.lists(COMPLETIONS, min_size=1, max_size=3))
        done = tuple(Completion(position, sample, *values) for sample, values in enumerate(samples))
        rows.append(ResultRow(position, draw(st.none() | TEXTS), draw(st.integers(0, 2**31 - 1)), done))
    return rows


@effort(max_examples=6, deadline=None)
@given(rows=_rows())
def test_rows_come_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, rows: list[ResultRow]) -> None:
    folder = tmp_path_factory.mktemp("journal")
    _write(folder, *reversed(rows))
    assert _read(folder, 10**6 + 1) == rows


def test_only_answered_rows_below_the_limit_are_done(tmp_path: Path) -> None:
    half = ResultRow(3, "p", 1, (Completion(3, 0, "x", "stop", 1), Completion(3, 1, None, "error", 0, "why")))
    _write(tmp_path, answered(0), failed(1), answered(2), half, answered(8), answered(9))
    with Journal(tmp_path, IDENTITY) as journal:
        done = journal.answered(range(9))
        assert [position for position in range(9) if position in done] == [0, 2, 8]
        assert done.count == 3
        assert [row.position for row in journal.rows(range(9))] == [0, 1, 2, 3, 8]


def test_a_failed_row_is_replaced(tmp_path: Path) -> None:
    _write(tmp_path, failed(0, "first"), failed(1))
    _write(tmp_path, failed(0, "second"), answered(1, "now it works", prompt="new"))
    assert _read(tmp_path) == [failed(0, "second"), answered(1, "now it works", prompt="new")]


def test_an_answered_row_is_never_replaced(tmp_path: Path) -> None:
    _write(tmp_path, answered(0, "first"), answered(0, "second"))
    _write(tmp_path, answered(0, "third"), failed(0))
    assert _read(tmp_path) == [answered(0, "first")]


def test_a_row_is_on_disk_within_a_second_of_being_appended(tmp_path: Path) -> None:
    with Journal(tmp_path, IDENTITY) as journal, journal.writer() as writer:
        writer.append(answered(5))
        deadline = time.monotonic() + 1
        while not writer.safe_rows:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as reader:
            assert reader.execute("SELECT position FROM finished").fetchall() == [(5,)]


def test_every_row_is_on_disk_when_the_writer_ends(tmp_path: Path) -> None:
    with Journal(tmp_path, IDENTITY) as journal:
        with journal.writer() as writer:
            for position in range(10_000):
                writer.append(answered(position))
        assert writer.safe_rows == 10_000
        assert journal.answered(range(10_000)).count == 10_000


def test_rows_are_kept_where_the_block_ends_with_another_error(tmp_path: Path) -> None:
    with Journal(tmp_path, IDENTITY) as journal:
        with pytest.raises(KeyError, match="engine"):
            _append(journal, _ending_with(KeyError("engine"), answered(0)))
        assert journal.answered(range(1)).count == 1


def test_the_thread_ends_with_the_writer(tmp_path: Path) -> None:
    with Journal(tmp_path, IDENTITY) as journal:
        with journal.writer():
            assert "journal" in {thread.name for thread in threading.enumerate()}
        assert "journal" not in {thread.name for thread in threading.enumerate()}


def test_an_error_of_the_writer_comes_out_of_append(tmp_path: Path) -> None:
    handed_over = 0

    def slowly() -> Iterator[ResultRow]:
        nonlocal handed_over
        for handed_over in range(10_000):
            yield answered(handed_over)
            time.sleep(0.001)

    with Journal(tmp_path, IDENTITY) as journal:
        _sql(tmp_path, "DROP TABLE finished")
        with pytest.raises(OutputError) as caught:
            _append(journal, slowly())
    assert str(caught.value) == (
        f"{tmp_path}/journal.sqlite: the journal is damaged (no such table: finished): move it away and run again."
    )
    assert 0 < handed_over < 9_999


def test_an_error_of_the_writer_comes_out_at_the_end(tmp_path: Path) -> None:
    with Journal(tmp_path, IDENTITY) as journal:
        _sql(tmp_path, "DROP TABLE finished")
        with pytest.raises(OutputError, match="no such table: finished"):
            _append(journal, [answered(0)])


def test_an_error_of_the_writer_does_not_block_a_full_queue(tmp_path: Path) -> None:
    with Journal(tmp_path, IDENTITY) as journal:
        _sql(tmp_path, "DROP TABLE finished")
        with pytest.raises(OutputError, match="no such table: finished"):
            _append(journal, map(answered, range(20_000)))


def test_a_disk_that_takes_no_more_is_an_output_error_and_keeps_earlier_rows(tmp_path: Path) -> None:
    _write(tmp_path, answered(0, "safe"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(tmp_path, IDENTITY) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
        try:
            with pytest.raises(OutputError, match=f"{tmp_path}/journal.sqlite: "):
                _append(journal, (answered(position, "x" * 4000) for position in range(1, 100)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert _read(tmp_path) == [answered(0, "safe")]


@pytest.mark.slow
def test_a_second_process_is_told_who_holds_the_run_and_takes_over_when_that_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "shard"
    with _holder(folder) as other:
        for _ in range(2):
            with pytest.raises(RunLockedError) as caught:
                Journal(folder, IDENTITY)
            assert str(caught.value) == (
                f"{folder} is being worked on by process {other.pid} on {os.uname().nodename}: "
                "wait for it to end, then run again."
            )
        other.send_signal(signal.SIGKILL)
        other.wait()
        (row,) = _read(folder)
    assert row.completions[0].text == "by the other process"


def test_the_lock_is_held_until_the_journal_is_left(tmp_path: Path) -> None:
    with Journal(tmp_path, IDENTITY):
        assert not _lock_is_free(tmp_path)
    assert _lock_is_free(tmp_path)


def test_the_lock_is_free_again_where_the_journal_was_refused(tmp_path: Path) -> None:
    _write(tmp_path)
    with pytest.raises(OutputError):
        Journal(tmp_path, Identity({"model": "two"}))
    assert _lock_is_free(tmp_path)


def test_the_journal_of_another_run_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, answered(0))
    with pytest.raises(OutputError) as caught:
        Journal(tmp_path, Identity({"model": "two"}))
    assert str(caught.value) == (
        f"{tmp_path}/journal.sqlite holds rows of another run ({IDENTITY.short}): move it away and run again."
    )
    assert _read(tmp_path) == [answered(0)]


def test_the_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    _sql(tmp_path, "CREATE TABLE theirs(x)")
    with pytest.raises(OutputError) as caught:
        Journal(tmp_path, IDENTITY)
    assert str(caught.value) == f"{tmp_path}/journal.sqlite is another program's database: move it away and run again."
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").touch()
    _write(tmp_path, answered(0))
    assert _read(tmp_path) == [answered(0)]


def test_rows_that_say_of_which_run_they_are_no_longer_are_not_used(tmp_path: Path) -> None:
    _write(tmp_path, answered(0))
    _sql(tmp_path, "DELETE FROM run")
    with pytest.raises(OutputError, match=r"holds rows of another run \(none is named\): move it away and run again"):
        _read(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TRIGGER t AFTER INSERT ON finished BEGIN DELETE FROM finished; END",
        "CREATE TABLE other(a)",
        "ALTER TABLE finished ADD COLUMN more",
        "DROP TABLE run",
    ],
)
def test_a_journal_with_other_tables_is_not_used(tmp_path: Path, change: str) -> None:
    """A trigger could take away what is written, and the job would answer the same rows again and again."""
    _write(tmp_path, answered(0))
    _sql(tmp_path, change)
    with pytest.raises(OutputError, match="the journal was changed by another program: move it away and run again"):
        _read(tmp_path)


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
def test_a_pipe_in_the_place_of_a_file_of_sqlite_is_named(tmp_path: Path, suffix: str) -> None:
    _write(tmp_path, answered(0))
    place = tmp_path / f"journal.sqlite{suffix}"
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    with pytest.raises(OutputError, match=f"{place}|is not a regular file"):
        _read(tmp_path)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"garbage" * 1000)
    with pytest.raises(OutputError) as caught:
        Journal(tmp_path, IDENTITY)
    assert str(caught.value) == (
        f"{tmp_path}/journal.sqlite: the journal is damaged (file is not a database): move it away and run again."
    )


@pytest.mark.parametrize("cut", [True, False])
def test_a_damaged_journal_is_named(tmp_path: Path, cut: bool) -> None:
    _write(tmp_path, *(answered(position, "x" * 300) for position in range(500)))
    file = tmp_path / "journal.sqlite"
    content = file.read_bytes()
    half = len(content) // 2
    file.write_bytes(content[:half] if cut else content[:half] + b"\xff" * (len(content) - half))
    with pytest.raises(OutputError, match=f"{file}: the journal is damaged .*: move it away and run again"):
        _read(tmp_path)


@pytest.mark.parametrize(
    "damage", ["completions = replace(completions, 'x', 'y')", "prompt = NULL", "answered = 0", "position = 9"]
)
def test_a_row_that_is_not_as_it_was_written_is_removed_and_named(tmp_path: Path, damage: str) -> None:
    _write(tmp_path, answered(0), answered(1, "x"), answered(2))
    _sql(tmp_path, f"UPDATE finished SET {damage} WHERE position = 1")
    position = 9 if "position" in damage else 1
    with pytest.raises(
        OutputError, match=f"1 rows are damaged, the first of them row {position}: .* run the same command again"
    ):
        _read(tmp_path)
    assert [row.position for row in _read(tmp_path)] == [0, 2]
    _write(tmp_path, answered(1, "x"))
    assert [row.position for row in _read(tmp_path)] == [0, 1, 2]


def test_all_damaged_rows_are_removed_together(tmp_path: Path) -> None:
    _write(tmp_path, *(answered(position) for position in range(5)))
    _sql(tmp_path, "UPDATE finished SET prompt = 'another' WHERE position IN (1, 3)")
    with pytest.raises(OutputError, match="2 rows are damaged, the first of them row 1"):
        _read(tmp_path)
    assert [row.position for row in _read(tmp_path)] == [0, 2, 4]


def _answer_again(folder: Path, rows: list[ResultRow]) -> list[ResultRow]:
    """As a run of the same command does: answer what is missing, then read all."""
    with Journal(folder, IDENTITY) as journal:
        done = journal.answered(range(len(rows)))
        _append(journal, [row for row in rows if row.position not in done])
        return list(journal.rows(range(len(rows))))


def test_a_journal_that_lost_its_end_is_whole_after_the_same_command_or_named(tmp_path: Path) -> None:
    """Long texts lie on chains of pages; where some are lost, two rows may have the same one."""
    dice, ends = random.Random(5), Counter[str]()
    for number in range(60):
        folder = tmp_path / f"{number}"
        rows = [answered(position, "é" * dice.randrange(1, 9000)) for position in range(5)]
        for row in dice.sample(rows, dice.choice([2, 3, 4])):
            _write(folder, row)
        file = folder / "journal.sqlite"
        file.write_bytes(file.read_bytes()[: dice.randrange(file.stat().st_size * 2 // 3, file.stat().st_size)])
        end: list[str] = []
        while end[-1:] != ["whole"] and end[-1:] != ["named"] and len(end) < 3:
            try:
                assert _answer_again(folder, rows) == rows
                end.append("whole")
            except OutputError as error:
                end.append("named" if "move it away" in str(error) else "removed")
        ends[" ".join(end)] += 1
    assert ends.keys() <= {"whole", "named", "removed whole"}
    assert min(ends["named"], ends["removed whole"]) > 5
    assert not list(tmp_path.glob("*/*.tmp*"))


def test_a_page_that_the_disk_wrote_to_the_place_of_another_is_noticed(tmp_path: Path) -> None:
    """All its rows are sound, and there twice."""
    rows = [answered(position, f"answer {position} " + "x" * 300) for position in range(80)]
    _write(tmp_path, *rows)
    file = tmp_path / "journal.sqlite"
    whole = file.read_bytes()
    leaves = [start for start in range(4096, len(whole), 4096) if whole[start] == 0x0D][1:]  # the first is the run's table
    for source, target in zip(leaves[1:], leaves[:-1], strict=True):
        file.write_bytes(whole[:target] + whole[source : source + 4096] + whole[target + 4096 :])
        with pytest.raises(OutputError, match="rows are damaged"):
            _answer_again(tmp_path, rows)
        assert _answer_again(tmp_path, rows) == rows


def test_no_damaged_byte_becomes_another_answer(tmp_path: Path) -> None:
    rows = [answered(position, f"answer {position} " + "é" * 40) for position in range(60)]
    _write(tmp_path, *rows)
    file = tmp_path / "journal.sqlite"
    whole, dice, noticed = file.read_bytes(), random.Random(1), 0
    for _ in range(100):
        place = dice.randrange(len(whole))
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << dice.randrange(8)]) + whole[place + 1 :])
        try:
            assert all(row in rows for row in _read(tmp_path))
        except OutputError:
            noticed += 1
    assert noticed > 30


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=f"{tmp_path}/file/shard: Not a directory. .* choose another OUTPUT_DIR"):
        Journal(tmp_path / "file" / "shard", IDENTITY)


def test_rows_outside_of_the_dataset_are_no_rows(tmp_path: Path) -> None:
    """They would count for rows that are missing, and no run could come to its end."""
    _write(tmp_path, answered(0), answered(2))
    for position in (-1, -(2**40), 3, 2**62):
        _sql(tmp_path, f"INSERT INTO finished VALUES ({position}, 1, 'p', 1, '[]', 0)")
    with Journal(tmp_path, IDENTITY) as journal:
        assert journal.answered(range(3)).count == 2
        assert [row.position for row in journal.rows(range(3))] == [0, 2]
