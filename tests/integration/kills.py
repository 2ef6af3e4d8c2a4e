"""Disturbing the job at bad moments, again and again, and holding what is left against the laws.

A chain is one run, killed with SIGKILL and started again with the same settings until it is done. It may also be stopped by
SIGTERM and SIGINT, meet a full disk, and have a twin started beside it. After every one of these:
    the journal is sound, after the rollback that SQLite owes an interrupted transaction;
    no finished row has gone or changed, and each is what an undisturbed run has at that position.
At the end of a chain the results are those of an undisturbed run, byte for byte.

In a counted chain the engine keeps a ledger (see ledger.py), so it is known which rows a killed process had finished:
    no row that was in the journal is generated again;
    a finished row that is not in the journal was finished less than SAFE_SECONDS before the kill;
    so a kill costs at most the requests in flight and the rows of its last second.
After SIGTERM and SIGINT no finished row is missing, and the exit code is 75; on a full disk it is 73, and 75 for a twin.
Without a ledger only the journal and the last process's own count can be held against each other.

SIGKILL takes a process from the machine, not the machine itself: what a power cut leaves (fsync) is seen in power_cuts.py.
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.processes import assert_gone, command_of, descendants
from tests.support import (
    ECHO,
    JOB,
    ROOT,
    described_alike,
    environment,
    finished_rows,
    journal_of,
    parquet_bytes,
    read_table,
    results_folder,
    write_jsonl,
)

LEDGER_JOB = [sys.executable, "-m", "tests.integration.ledger_job"]
SAFE_SECONDS = 1.0
WINDOW = 16
DELAY_SECONDS = 0.05
POLL_SECONDS = 0.0002
COMMIT_SECONDS = 0.0005  # about what a commit takes from the sync of its rollback journal on
RUN_SECONDS = 300.0  # of which the real engine takes half a minute to start, or two on a busy machine
HOT = bytes.fromhex("d9d505f920a163d7")  # how a rollback journal begins that SQLite has to roll back

Rows = Mapping[int, tuple[object, ...]]


class Moment(StrEnum):
    """When to kill."""

    TIME = "at a random time"
    TRANSACTION = "while a transaction is seen"
    RESULTS = "while results are written"
    TERM = "SIGTERM at a random time"
    INT = "SIGINT at a random time"
    TWIN = "at a random time, after a twin"
    FULL = "by a full disk"
    ENGINE = "SIGKILL of the engine at a random time"


# The order of moments. A transaction is the least likely to be hit by chance, and results end the chain soon.
MOMENTS = (
    Moment.TRANSACTION,
    Moment.TIME,
    Moment.TRANSACTION,
    Moment.TRANSACTION,
    Moment.TIME,
    Moment.TRANSACTION,
    Moment.RESULTS,
)
# The same with everything else that happens to a run.
ALL_MOMENTS = (
    Moment.TRANSACTION,
    Moment.TERM,
    Moment.FULL,
    Moment.TWIN,
    Moment.TIME,
    Moment.INT,
    Moment.TRANSACTION,
    Moment.FULL,
    Moment.TERM,
    Moment.RESULTS,
)
# Where each start takes half a minute.
VLLM_MOMENTS = (Moment.TIME, Moment.ENGINE, Moment.TERM, Moment.TRANSACTION, Moment.INT, Moment.TWIN, Moment.FULL)
SIGNALS = {Moment.TERM: signal.SIGTERM, Moment.INT: signal.SIGINT}
DISK_BYTES = 24 * 2**20
KILLS_WHEN_DONE = 2  # when all rows are in the journal, so that most kills come before


@dataclass(frozen=True, slots=True)
class Tortured:
    """An engine to be tortured. variables: what it is set up by; repeats: of the sentence in the longest instructions;

    start: the share of the start-up that is left in peace, which takes most of the time where a model is loaded.
    """

    variables: Mapping[str, object]
    repeats: int
    start: float


ECHO_ENGINE = Tortured(
    {**ECHO, "ENGINE_ARGS": json.dumps({"delay_seconds": DELAY_SECONDS, "window": WINDOW})}, repeats=60, start=0
)


def vllm_engine(model: Path) -> Tortured:
    """The real engine on the CPU, sampling, with as many requests in flight as the other one."""
    numbers = {
        "REPRODUCIBILITY": "bitwise",
        "MAX_MODEL_LEN": 1024,
        "KV_CACHE_MEMORY_BYTES": 2**30,
        "MAX_TOKENS": 40,
        "SEED": 11,
    }
    return Tortured(
        {"MODEL_ID": model, "ENGINE_ARGS": json.dumps({"max_num_seqs": WINDOW // 2}), **numbers}, repeats=4, start=0.85
    )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The journal as a dead process left it, read from a copy: the next run is to meet it as it is.

    rollback: the content of the rollback journal, empty where no transaction had begun; hot: it was on the disk, so that it
    has to be rolled back; torn: that changed the database, so the kill came in the middle of writing it; half_made: other
    files that were being written.
    """

    rows: Rows
    sound: bool
    rollback: bytes
    hot: bool
    torn: bool
    half_made: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """What one process did, by its ledger. finished: when each row got its last sample."""

    fed: Counter[tuple[int, int]]
    done: Counter[tuple[int, int]]
    finished: Mapping[int, float]


@dataclass(slots=True)
class Report:
    """Counts over all chains, and every law that was found broken."""

    kills: Counter[Moment] = field(default_factory=Counter)
    processes: int = 0
    chains: int = 0
    counted_chains: int = 0
    counted_kills: int = 0
    begun: int = 0
    hot: int = 0
    torn: int = 0
    half_made: Counter[str] = field(default_factory=Counter)
    before_journal: int = 0
    twins: int = 0
    rows: int = 0
    lost_rows: int = 0
    most_lost: int = 0
    oldest_lost: float = 0.0
    most_in_flight: int = 0
    identical: int = 0
    violations: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        half_made = ", ".join(f"{name} {count}" for name, count in sorted(self.half_made.items())) or "none"
        return [
            f"ended before they were done      {self.kills.total()}",
            *(f"  {moment:<30} {self.kills[moment]}" for moment in Moment),
            f"twins turned away                {self.twins}",
            f"processes started                {self.processes}",
            f"chains                           {self.chains}, {self.counted_chains} of them counted by a ledger",
            f"kills before there were rows     {self.before_journal}",
            f"kills inside a transaction       {self.begun}",
            f"  with a hot rollback journal    {self.hot}",
            f"  the database half-written      {self.torn}",
            f"kills with half-made files       {half_made}",
            f"rows answered                    {self.rows}",
            f"rows generated twice             {self.lost_rows}, in {self.counted_kills} counted kills",
            f"  most in one kill               {self.most_lost}",
            f"  oldest when killed             {self.oldest_lost:.3f} s",
            f"  most requests in flight        {self.most_in_flight}",
            f"results identical                {self.identical} of {self.chains}",
            f"violations                       {len(self.violations)}",
            *(f"  {violation}" for violation in self.violations),
        ]


@dataclass(frozen=True, slots=True)
class Reference:
    """An undisturbed run of the same settings."""

    parquet: bytes
    described: tuple[str, bytes]
    facts: Mapping[str, object]
    journal: Rows
    seconds: float
    generation_seconds: float


class Campaign:
    """Chains of killed runs in a folder of their own, all random choices from one seed."""

    def __init__(
        self, folder: Path, *, rows: int, seed: int, moments: Sequence[Moment] = MOMENTS, engine: Tortured = ECHO_ENGINE
    ) -> None:
        self._folder = folder
        self._engine = engine
        self._moments = moments
        self._rows = rows
        self._random = random.Random(seed)
        self._dataset = write_jsonl(
            folder / "rows.jsonl",
            [
                {"instruction": f"Tell me about the number {number}. " * (1 + number % 5 * engine.repeats // 4), "id": number}
                for number in range(rows)
            ],
        )
        self._references: dict[int, Reference] = {}
        self.report = Report()

    def run(self, *, kills: int, samples: Sequence[int]) -> Report:
        """Chains with each number of samples in turn, every second one counted, until so many kills have landed."""
        while self.report.kills.total() < kills:
            number = self.report.chains
            self.chain(samples[number // 2 % len(samples)], counted=number % 2 == 0, kills=kills)
        return self.report

    def chain(self, samples: int, *, counted: bool, kills: int) -> None:
        """One run, killed until it is done, or until the report has so many kills."""
        reference = self._reference(samples)
        folder = self._folder / f"chain-{self.report.chains}"
        self.report.chains += 1
        self.report.counted_chains += counted
        with _disk(folder / "results", small=Moment.FULL in self._moments):
            chain = _Chain(self, folder, samples, reference, counted=counted)
            while chain.step(kill=self.report.kills.total() < kills):
                pass
            chain.check_results()
        shutil.rmtree(folder)

    def settings(self, folder: Path, samples: int) -> dict[str, object]:
        """HF_HOME is the chain's own: the conversion of the dataset is killed too."""
        own = {"OUTPUT_DIR": folder / "results", "HF_HOME": folder / "hf", "TMPDIR": temporary(folder)}
        return {**self._engine.variables, "DATASET_ID": self._dataset, "NUM_SAMPLES": samples, **own}

    def choose(self, reference: Reference, rows_done: int, step: int) -> "_Plan":
        """When to kill the next process of a chain: the share of its work that is left scales the time."""
        seconds = reference.seconds - reference.generation_seconds * rows_done / self._rows
        # A chain of kills alone begins with the first moment; with everything else chains are short, so each begins elsewhere.
        start = 0 if self._moments is MOMENTS else 3 * self.report.chains
        moment = self._moments[(start + step - 1) % len(self._moments)]
        if moment is Moment.TRANSACTION and rows_done == self._rows:
            moment = Moment.RESULTS  # nothing is left to be written to the journal
        return _Plan(
            moment,
            after=self._random.uniform(self._engine.start * (reference.seconds - reference.generation_seconds), 1.05 * seconds),
            transactions=self._random.randint(1, 4),
            hot=self._random.random() < 0.8,
            pause=self._random.uniform(0, COMMIT_SECONDS),
            results_pause=self._random.uniform(0, 0.02),
            room=self._random.choice([0, 4096, 40_000, 200_000]),
        )

    def _reference(self, samples: int) -> Reference:
        if samples not in self._references:
            folder = self._folder / f"reference-{samples}"
            process = _Process(self.settings(folder, samples), folder, JOB)
            started = time.monotonic()
            code = process.wait()
            seconds = time.monotonic() - started
            assert code == 0, process.said
            results = results_folder(folder / "results")
            assert read_table(results)["id"].to_pylist() == list(range(self._rows))
            facts = json.loads((results / "run.json").read_text(encoding="utf-8"))
            self._references[samples] = Reference(
                parquet_bytes(results),
                described_alike(results),
                {name: facts[name] for name in ("identity", "counts", "files")},
                finished_rows(folder / "results"),
                seconds,
                facts["seconds"]["generation"],
            )
        return self._references[samples]


@dataclass(frozen=True, slots=True)
class _Plan:
    """When exactly to kill.

    after: seconds from the start; transactions: how many are to be seen; hot: wait until the last one begins to change the
    database; pause: seconds after that; results_pause: seconds after results begin to be written; room: bytes that a full
    disk has left.
    """

    moment: Moment
    after: float
    transactions: int
    hot: bool
    pause: float
    results_pause: float
    room: int


class _Process:
    """One start of the job."""

    def __init__(
        self, settings: Mapping[str, object], folder: Path, command: Sequence[str], output: Path | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._output = output or folder / "results"
        self._out = folder / "stdout"
        with self._out.open("wb") as out:
            self._popen = subprocess.Popen(command, cwd=ROOT, env=environment(**settings), stdout=out, stderr=out)

    @property
    def said(self) -> str:
        return self._out.read_text(encoding="utf-8", errors="replace")

    def wait(self) -> int:
        return self._popen.wait(RUN_SECONDS)

    def kill_at(self, plan: _Plan) -> tuple[int, float]:
        """Kill it at the planned moment, if it does not end before that. Returns its exit code and the time of the kill."""
        match plan.moment:
            case Moment.TIME | Moment.TERM | Moment.INT | Moment.TWIN:
                self._sleep(plan.after)
            case Moment.TRANSACTION:
                self._see_transactions(plan.transactions, hot=plan.hot)
                self._sleep(plan.pause)
            case Moment.RESULTS:
                self._see_results()
                self._sleep(plan.results_pause)
            case Moment.FULL:
                return self.wait(), time.monotonic()
            case Moment.ENGINE:
                self._sleep(plan.after)
                now = time.monotonic()
                for pid in (pid for pid in descendants(self.pid) if "EngineCore" in command_of(pid)):
                    os.kill(pid, signal.SIGKILL)
                return self.wait(), now
        now, family = time.monotonic(), descendants(self.pid)
        self._popen.send_signal(SIGNALS.get(plan.moment, signal.SIGKILL))
        code = self.wait()
        assert_gone(family - {self.pid})
        return code, now

    def has_lock(self) -> bool:
        """Wait until it holds its run. Whether it came to that before it ended."""
        while self._popen.poll() is None:
            journal = journal_of(self._output)
            if journal and self._is_holder(journal.with_name("holder.json")):
                return True
            time.sleep(POLL_SECONDS)
        return False

    def _is_holder(self, note: Path) -> bool:
        return note.exists() and f"process {self.pid} on" in note.read_text(encoding="utf-8")

    @property
    def pid(self) -> int:
        return self._popen.pid

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._popen.poll() is None and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.01))

    def _see_transactions(self, wanted: int, *, hot: bool) -> None:
        """Until a rollback journal has begun so many times, and is hot if that is asked for, or the process has ended."""
        path: Path | None = None
        seen, was_there = 0, False
        while self._popen.poll() is None:
            if path is None:
                path = journal_of(self._output)
                path = path and path.with_name(f"{path.name}-journal")
            for _ in range(100):  # the last one is not to be slept over: it is there for a millisecond
                is_there = path is not None and _size(path) > 0
                seen += is_there and not was_there
                if path is not None and seen >= wanted and (not hot or _is_hot(path)):
                    return
                was_there = is_there
                if path is None or seen < wanted - 1:
                    time.sleep(POLL_SECONDS)
                    break

    def _see_results(self) -> None:
        """Until something in the folder of the parquet file changes, or the process has ended."""

        def state() -> list[int]:
            return [folder.stat().st_mtime_ns for folder in self._output.glob("*/*/data")]

        before = state()
        while self._popen.poll() is None and state() == before:
            time.sleep(POLL_SECONDS)


class _Chain:
    """One run that is killed and started again."""

    def __init__(self, campaign: Campaign, folder: Path, samples: int, reference: Reference, *, counted: bool) -> None:
        self._campaign = campaign
        self._report = campaign.report
        self._folder = folder
        self._output = folder / "results"
        self._samples = samples
        self._reference = reference
        self._counted = counted
        self._before: Rows = {}
        self._rollback = b""
        self._step = 0
        self._killed_when_done = 0
        self._lost = 0
        self._finished = 0

    def step(self, *, kill: bool) -> bool:
        """Start the run once, perhaps to kill it. Returns whether it is still to be done."""
        self._step += 1
        self._report.processes += 1
        done = len(self._before) == len(self._reference.journal)
        kill = kill and not (done and self._killed_when_done == KILLS_WHEN_DONE)
        settings = self._campaign.settings(self._folder, self._samples)
        ledger = self._folder / f"ledger-{self._step}"
        if self._counted:
            settings["LEDGER"] = ledger
        plan = self._campaign.choose(self._reference, len(self._before), self._step)
        with _filled(self._output, plan.room if kill and plan.moment is Moment.FULL else None):
            process = _Process(settings, self._folder, LEDGER_JOB if self._counted else JOB)
            if kill and plan.moment is Moment.TWIN and process.has_lock():
                self._start_twin(settings, process)
            code, killed_at = process.kill_at(plan) if kill else (process.wait(), time.monotonic())
        killed = code == -signal.SIGKILL
        ended = code in _ENDS.get(plan.moment, ()) if kill else False
        if not (killed or ended):
            self._expect(code == 0, f"ended with {code}: {process.said[-600:]}")
        self._expect("Traceback" not in process.said, f"a traceback: {process.said[-600:]}")
        left = snapshot(self._output, self._folder / "copy")
        if killed or ended:
            self._killed_when_done += done
            self._count(plan.moment, left, killed=killed)
        self._check_rows(left)
        if self._counted:
            self._check_work(read_ledger(ledger, self._samples), left.rows, killed_at, killed=killed)
        elif not killed and code == 0:
            generated = json.loads(process.said.splitlines()[-1])["generated_rows"]
            missing = len(self._reference.journal) - len(self._before)
            self._expect(generated == missing, f"generated {generated} rows where {missing} were missing")
        self._before, self._rollback = left.rows, left.rollback
        return killed or ended

    def _start_twin(self, settings: Mapping[str, object], first: _Process) -> None:
        """A second process of the same run ends at once and names the first, unless that has just ended."""
        others = {"LEDGER": self._folder / "ledger-twin"} if self._counted else {}
        twin = _Process({**settings, **others}, self._folder / "twin", LEDGER_JOB if self._counted else JOB, self._output)
        code = twin.wait()
        if code == 0:  # the first had ended by then
            return
        self._expect(code == 75, f"a twin ended with {code}: {twin.said[-600:]}")
        self._expect(f"process {first.pid} on " in twin.said, f"a twin did not name the holder: {twin.said[-600:]}")
        self._report.twins += 1

    def check_results(self) -> None:
        """The results at the end are those of an undisturbed run."""
        results = results_folder(self._output)
        facts = json.loads((results / "run.json").read_text(encoding="utf-8"))
        same = (
            parquet_bytes(results) == self._reference.parquet
            and described_alike(results) == self._reference.described
            and all(facts[name] == value for name, value in self._reference.facts.items())
        )
        self._expect(same, "the results differ from an undisturbed run's")
        left = [*half_made(self._output), *left_over(temporary(self._folder))]
        self._expect(not left, f"left behind: {left}")
        self._report.identical += same
        self._report.rows += len(self._before)
        if self._counted:
            rows = len(self._reference.journal)
            self._expect(
                self._finished == rows + self._lost,
                f"finished {self._finished} rows in all, for {rows} rows of which {self._lost} were lost and made again",
            )

    def _count(self, moment: Moment, left: Snapshot, *, killed: bool) -> None:
        report = self._report
        report.kills[moment] += 1
        report.counted_kills += self._counted and killed
        if left.rollback != self._rollback:  # a process that was killed early leaves what the one before it had left
            report.begun += bool(left.rollback)
            report.hot += left.hot
            report.torn += left.torn
        report.before_journal += not left.rows
        report.half_made.update(left.half_made)

    def _check_rows(self, left: Snapshot) -> None:
        self._expect(left.sound, "the journal is damaged")
        gone = sorted(set(self._before) - set(left.rows))
        self._expect(not gone, f"finished rows have gone: {gone[:10]}")
        wrong = [position for position, row in left.rows.items() if self._reference.journal.get(position) != row]
        self._expect(not wrong, f"finished rows differ from an undisturbed run's: {wrong[:10]}")

    def _check_work(self, work: Work, journalled: Rows, killed_at: float, *, killed: bool) -> None:
        again = sorted({position for position, _ in work.fed if position in self._before})
        self._expect(not again, f"rows were in the journal, and generated again: {again[:10]}")
        self._expect(all(count == 1 for count in work.fed.values()), "a request was fed twice")
        made_up = sorted(set(journalled) - set(self._before) - set(work.finished))
        self._expect(not made_up, f"in the journal, and never finished: {made_up[:10]}")
        ages = {position: killed_at - when for position, when in work.finished.items() if position not in journalled}
        if ages:
            self._expect(killed, f"the job ended well, without rows {sorted(ages)[:10]}")
            late = {position: round(age, 3) for position, age in ages.items() if age > SAFE_SECONDS}
            self._expect(not late, f"finished more than {SAFE_SECONDS} s before the kill, and lost (seconds): {late}")
        in_flight = work.fed.total() - work.done.total()
        self._expect(in_flight <= WINDOW, f"{in_flight} requests in flight, where {WINDOW} were allowed")
        report = self._report
        self._lost += len(ages)
        self._finished += len(work.finished)
        report.lost_rows += len(ages)
        report.most_lost = max(report.most_lost, len(ages))
        report.oldest_lost = max(report.oldest_lost, *ages.values(), 0.0)
        report.most_in_flight = max(report.most_in_flight, in_flight)

    def _expect(self, holds: bool, violation: str) -> None:
        if not holds:
            self._report.violations.append(f"chain {self._report.chains}, start {self._step}: {violation}")


# How a process may end before its run is done, other than by SIGKILL. One that has not set up its handlers dies of the signal.
_ENDS = {
    Moment.TERM: (75, -signal.SIGTERM),
    Moment.INT: (75, -signal.SIGINT, 130),
    Moment.FULL: (73,),
    Moment.ENGINE: (70,),
}


@contextmanager
def _disk(folder: Path, *, small: bool) -> Iterator[None]:
    """A small file system of its own at a folder, for a disk that can be full."""
    if not small:
        yield
        return
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def _filled(folder: Path, room: int | None) -> Iterator[None]:
    """Leave so many bytes free on the disk of a folder, while the block runs; None leaves it alone."""
    ballast = folder / "ballast"
    if room is not None:
        free = shutil.disk_usage(folder).free
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(free - room, 1))
    try:
        yield
    finally:
        ballast.unlink(missing_ok=True)


def snapshot(output: Path, scratch: Path) -> Snapshot:
    """What a dead process left behind."""
    journal = journal_of(output)
    if journal is None:
        return Snapshot({}, sound=True, rollback=b"", hot=False, torn=False, half_made=half_made(output))
    scratch.mkdir(exist_ok=True)
    rollback = journal.with_name(f"{journal.name}-journal")
    copies = [scratch / path.name for path in (journal, rollback)]
    for path, copy in zip((journal, rollback), copies, strict=True):
        copy.unlink(missing_ok=True)
        if path.exists():
            shutil.copyfile(path, copy)
    left_over = copies[1].read_bytes() if copies[1].exists() else b""
    as_left = copies[0].read_bytes()
    with closing(sqlite3.connect(copies[0])) as connection:
        try:
            sound = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'finished'").fetchone() == (1,)
            rows = {row[0]: row[1:] for row in connection.execute("SELECT * FROM finished")} if tables else {}
        except sqlite3.DatabaseError:
            sound, rows = False, {}
    return Snapshot(rows, sound, left_over, left_over.startswith(HOT), copies[0].read_bytes() != as_left, half_made(output))


def temporary(folder: Path) -> Path:
    """The folder for temporary files of a chain."""
    path = folder / "tmp"
    path.mkdir(parents=True, exist_ok=True)
    return path


def left_over(folder: Path) -> list[str]:
    """What is left in a folder for temporary files, torch's cache of compiled kernels apart."""
    return [path.name for path in folder.iterdir() if not path.name.startswith("torchinductor_")]


def half_made(output: Path) -> tuple[str, ...]:
    """The names of files that were being written."""
    return tuple(sorted({path.name for path in output.glob("**/*.tmp")}))


def read_ledger(path: Path, samples: int) -> Work:
    """What a process did; nothing where it did not come as far as its engine."""
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    fed: Counter[tuple[int, int]] = Counter()
    done: Counter[tuple[int, int]] = Counter()
    finished: dict[int, float] = {}
    left: dict[int, int] = {}
    for what, position, sample, when in (line.split() for line in lines):
        request = int(position), int(sample)
        if what == "fed":
            fed[request] += 1
            continue
        done[request] += 1
        left[request[0]] = left.get(request[0], samples) - 1
        if not left[request[0]]:
            finished[request[0]] = float(when)
    return Work(fed, done, finished)


def _is_hot(rollback: Path) -> bool:
    try:
        with rollback.open("rb") as file:
            return file.read(len(HOT)) == HOT
    except OSError:
        return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
