"""The finished rows of one shard, in SQLite: each is on disk within a second of being finished, whatever happens next.

Rows are written by a thread of their own, in groups: while one group is being synced to disk the next one gathers, so the
engine never waits for the disk. A lock keeps a second process away from the same shard.
"""

import json
import queue
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from job.disk import disk_errors, make_folder, move_whole, sync_file
from job.errors import OutputError
from job.identity import Identity
from job.records import Completion, ResultRow
from job.run_lock import RunLock

JOURNAL = "journal.sqlite"
GATHER_SECONDS = 0.1  # how long a group gathers: a row is on disk after at most this and two syncs
_QUEUE_ROWS = 4096
# Rows written by one statement. SQLite gives the interpreter lock away at each, and an engine loop that never rests takes 5 ms
# to give it back: row by row, the writer would fall behind at 200 rows a second.
_STATEMENT_ROWS = 500
_APPLICATION_ID = 0x4A4F4232  # "JOB2", in the file's header: tells a journal from another program's database
_SCHEMA = """
CREATE TABLE run(identity TEXT NOT NULL);
CREATE TABLE finished(
    position INTEGER PRIMARY KEY,
    answered INTEGER NOT NULL,
    prompt TEXT,
    prompt_tokens INTEGER NOT NULL,
    completions TEXT NOT NULL,
    checksum INTEGER NOT NULL
);
"""
_TABLES = [(statement.strip(),) for statement in _SCHEMA.split(";") if statement.strip()]
_BESIDE = ("-journal", "-wal", "-shm")  # files of SQLite's own
# A failed row may be replaced; an answered one never.
_INSERT = (
    "INSERT INTO finished VALUES {} ON CONFLICT(position) DO UPDATE SET answered = excluded.answered, "
    "prompt = excluded.prompt, prompt_tokens = excluded.prompt_tokens, completions = excluded.completions, "
    "checksum = excluded.checksum "
    "WHERE NOT finished.answered"
)


class Positions:
    """A set of row positions as a bitmap: one bit a row, where a Python set would take some 60 bytes."""

    def __init__(self, among: range) -> None:
        self._start = among.start
        self._bits = bytearray((len(among) + 7) // 8)
        self.count = 0

    def add(self, position: int) -> None:
        self.count += position not in self
        place = position - self._start
        self._bits[place >> 3] |= 1 << (place & 7)

    def __contains__(self, position: int) -> bool:
        place = position - self._start
        return bool(self._bits[place >> 3] >> (place & 7) & 1)


class Journal:
    """The finished rows of one shard. Use as a context manager: it holds the lock."""

    def __init__(self, folder: Path, identity: Identity, lock: RunLock | None = None) -> None:
        """Take the lock on `folder` and open its journal, or make both.

        Raises: RunLockedError naming the process that holds the lock; OutputError where the folder cannot be written or the
        journal is damaged or not this run's.
        """
        self.path = folder / JOURNAL
        self.after_group: Callable[[], None] = lambda: None
        """Called by writers, in their own thread, after each group of rows that is on the disk."""
        with disk_errors(folder):
            make_folder(folder)
            self._lock = lock or RunLock(folder)
            self._lock.take()
            try:
                with disk_errors(self.path), _damage_named(self.path):
                    self._check(identity)
            except BaseException:
                self._lock.release()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.release()

    def check_held(self) -> None:
        """Raises: RunLockedError where another process took over, OutputError where the folder is gone."""
        with disk_errors(self.path):
            self._lock.check()

    def answered(self, among: range) -> Positions:
        """Those of the positions that have their answers. Failed rows are not among them: they are tried again."""
        done = Positions(among)
        query = "SELECT position FROM finished WHERE answered AND position >= ? AND position < ?"
        with self._reading(query, among.start, among.stop) as found:
            for (position,) in found:
                done.add(position)
        return done

    def rows(self, among: range) -> Iterator[ResultRow]:
        """All finished rows at these positions, by position.

        Raises: OutputError where rows are not as they were written; they are removed, so that they are answered anew.
        """
        damaged: list[int] = []
        last = -1  # a page that the disk wrote to the place of another has sound rows, and has them twice
        query = "SELECT * FROM finished WHERE position >= ? AND position < ? ORDER BY position"
        with self._reading(query, among.start, among.stop) as found:
            for *values, checksum in found:
                if _checksum(values) != checksum or values[0] <= last:
                    damaged.append(values[0])
                elif not damaged:
                    last = values[0]
                    yield _decoded(*values)
        if damaged:
            self._rebuild()
            raise OutputError(
                f"{self.path}: {len(damaged)} rows are damaged, the first of them row {damaged[0]}: the disk did not keep what "
                f"was written. They are removed: run the same command again to answer them anew, and have the disk checked."
            )

    def _rebuild(self) -> None:
        """Put the sound rows into a new journal, in the place of this one. To delete the others would not do: where a disk lost
        pages, a row's may be another row's as well, and what is written next into those that it gave free damages that one.
        """
        half_made = self.path.with_name(f"{JOURNAL}.tmp")
        half_made.unlink(missing_ok=True)
        with self._reading("SELECT identity FROM run") as found:
            ((digest,),) = found
        with self._reading("SELECT * FROM finished") as found, closing(sqlite3.connect(half_made)) as connection, connection:
            connection.execute("PRAGMA journal_mode = OFF")  # it is moved into its place when it is whole
            _make_tables(connection, digest)
            sound = (values for values in found if _checksum(values[:-1]) == values[-1])
            connection.executemany("INSERT OR IGNORE INTO finished VALUES (?, ?, ?, ?, ?, ?)", sound)
        with disk_errors(self.path):
            move_whole(half_made, self.path)

    def writer(self) -> "JournalWriter":
        """A writer for this journal; one at a time, and opened after the engine, whose fork must not copy its thread."""
        return JournalWriter(self.path, self._lock.check, self.after_group)

    @contextmanager
    def _reading(self, query: str, *parameters: object) -> Iterator[Iterator[Any]]:
        with (
            disk_errors(self.path),
            _damage_named(self.path),
            closing(_connect(self.path)) as connection,
            closing(connection.execute(query, parameters)) as found,  # an open cursor would keep its lock
        ):
            yield found

    def _check(self, identity: Identity) -> None:
        """Make the tables of a new journal; be sure that an old one is sound, a journal, and this run's."""
        for suffix in _BESIDE:
            self._check_beside(self.path.with_name(f"{self.path.name}{suffix}"))
        with closing(_connect(self.path)) as connection, connection:
            if connection.execute("PRAGMA application_id").fetchone() != (_APPLICATION_ID,):
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
                    raise OutputError(f"{self.path} is another program's database: move it away and run again.")
                _make_tables(connection, identity.digest)
            # A trigger, for one, could take the rows away again that are written.
            if connection.execute("SELECT sql FROM sqlite_master ORDER BY rowid").fetchall() != _TABLES:
                raise OutputError(f"{self.path}: the journal was changed by another program: move it away and run again.")
            runs = [found for (found,) in connection.execute("SELECT identity FROM run")]
            if runs != [identity.digest]:
                shown = ", ".join(str(found)[:12] for found in runs) or "none is named"
                raise OutputError(f"{self.path} holds rows of another run ({shown}): move it away and run again.")

    @staticmethod
    def _check_beside(path: Path) -> None:
        """Put on the disk what is there, and be sure that it is a file: SQLite would wait at a pipe.

        A process that was killed in a commit may have emptied its rollback journal and not synced that. The rows can be read
        then, and a power cut would bring the rollback back.
        """
        with suppress(FileNotFoundError):
            sync_file(path)


class JournalWriter:
    """Writes finished rows from a thread of its own. `safe_rows` counts those that are on disk."""

    def __init__(self, path: Path, check_held: Callable[[], None], after_group: Callable[[], None]) -> None:
        """check_held: raises where the journal is another process's by now; after_group: called after each group of rows."""
        self._path = path
        self._check_held, self._after_group = check_held, after_group
        self._queue: queue.Queue[ResultRow | None] = queue.Queue(_QUEUE_ROWS)
        self._error: Exception | None = None
        self._closing = threading.Event()
        self.safe_rows = 0
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Wait until every row is on disk. An error of the disk is raised, unless another is on its way already."""
        self._closing.set()  # nothing is waited for any more
        self._queue.put(None)
        self._thread.join()
        if error is None:
            self._raise()

    def append(self, row: ResultRow) -> None:
        """Hand over a finished row. Waits only where the disk is thousands of rows behind.

        Raises: OutputError where an earlier row could not be written.
        """
        self._raise()
        self._queue.put(row)

    def _raise(self) -> None:
        if self._error is not None:
            with disk_errors(self._path):
                raise self._error

    def _run(self) -> None:
        try:
            with closing(_connect(self._path)) as connection:
                while rows := self._gathered():
                    self._write(connection, rows)
        except Exception as error:  # noqa: BLE001 (handed to the thread that appends)
            self._error = error
            while self._queue.get() is not None:
                pass

    def _gathered(self) -> list[ResultRow]:
        """The next group of rows; empty at the end."""
        first = self._queue.get()
        if first is None:
            return []
        rows = [first]
        self._closing.wait(GATHER_SECONDS)
        while not self._queue.empty():
            row = self._queue.get()
            if row is None:
                self._queue.put(None)  # for the next call
                break
            rows.append(row)
        return rows

    def _write(self, connection: sqlite3.Connection, rows: list[ResultRow]) -> None:
        self._check_held()
        with connection:
            for first in range(0, len(rows), _STATEMENT_ROWS):
                some = [_encoded(row) for row in rows[first : first + _STATEMENT_ROWS]]
                places = ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(some))
                connection.execute(_INSERT.format(places), [*chain.from_iterable(some)])
        self.safe_rows += len(rows)
        self._after_group()


def _connect(path: Path) -> sqlite3.Connection:
    # No statements are kept for reuse: each would keep the rows that it wrote.
    connection = sqlite3.connect(path, timeout=10, cached_statements=0)
    # A rollback journal rather than WAL: it needs no shared memory, so it works on network file systems too. FULL: a commit
    # returns when its rows are on the disk.
    connection.execute("PRAGMA journal_mode = TRUNCATE")
    connection.execute("PRAGMA synchronous = FULL")
    # Damaged text has to come as far as its checksum.
    connection.text_factory = lambda content: content.decode("utf-8", "surrogateescape")
    return connection


def _make_tables(connection: sqlite3.Connection, digest: str) -> None:
    connection.execute("BEGIN")
    for (statement,) in _TABLES:
        connection.execute(statement)
    connection.execute("INSERT INTO run VALUES (?)", (digest,))
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")


def _encoded(row: ResultRow) -> tuple[object, ...]:
    completions = [
        {"text": done.text, "finish_reason": done.finish_reason, "tokens": done.tokens}
        | ({"error": done.error} if done.error else {})
        for done in row.completions
    ]
    values = (row.position, int(row.answered), row.prompt, row.prompt_tokens, json.dumps(completions, ensure_ascii=False))
    return *values, _checksum(values)


def _checksum(values: Sequence[object]) -> int:
    """SQLite keeps none: a bit that the disk turns over in a text would come back as another answer."""
    return zlib.crc32(repr(list(values)).encode("utf-8", "surrogatepass"))


def _decoded(position: int, _answered: int, prompt: str | None, prompt_tokens: int, completions: str) -> ResultRow:
    decoded = (
        Completion(position, sample, done["text"], done["finish_reason"], done["tokens"], done.get("error"))
        for sample, done in enumerate(json.loads(completions))
    )
    return ResultRow(position, prompt, prompt_tokens, tuple(decoded))


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Values that do not read as they were written, as the damage that they are: SQLite sees only that of its own structure."""
    try:
        yield
    except (LookupError, TypeError, ValueError) as error:
        raise OutputError(f"{path}: the journal is damaged ({error}): move it away and run again.") from error
