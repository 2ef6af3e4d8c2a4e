"""Shards that share no folder and meet on the Hub: killed, started again on new machines, in any order, two of them at once.

In each round the shards of one run are started in random order, each with a folder and a cache of its own, and ended at random
moments: by a signal after a while, or by SIGKILL as the Hub gets, or has done, one of their requests. What was ended is started
again, sometimes without its disk. The last two work at the same moment. After a round:
    there is exactly one commit of the job on the main branch, with all rows, as an undisturbed run of one shard has them;
    the branch on which they met is gone;
    a shard whose part was on the Hub already generated nothing, although its disk was lost.
"""

import random
import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.hub_server import Fault, HubServer, LoseAnswer, Repository, Status
from tests.hub_server.messages import Request, Response
from tests.integration.publishing import READER, REPO, TOKEN, Scene
from tests.support import JOB, Outcome, read_table, results_folder, run_job, running

ROWS = 20
TITLE = "Answers of run "
LONGEST_SECONDS = 2.5  # about as long as an undisturbed shard takes
BRANCH_COMMIT, MAIN_COMMIT, BRANCH = r"/commit/run-", r"/commit/main", r"/branch/run-"
STORAGE = r"/objects/"
PLACES = {
    "making the branch": ("POST", BRANCH),
    "commit to the branch": ("POST", BRANCH_COMMIT),
    "commit to main": ("POST", MAIN_COMMIT),
    "reading back": ("GET", STORAGE),
    "removing the branch": ("DELETE", BRANCH),
}
FAULTS: dict[str, Fault | None] = {"none": None, "lost answer": LoseAnswer(), "503": Status(503)}


@dataclass(slots=True)
class Report:
    """What a campaign saw. A collision is a commit to main that came too late for its parent."""

    rounds: Counter[int] = field(default_factory=Counter)
    starts: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    disks_lost: int = 0
    found: int = 0
    met: int = 0
    collisions: int = 0
    violations: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        return [
            f"rounds                           {self.rounds.total()}",
            *(f"  of {count} shards                    {number}" for count, number in sorted(self.rounds.items())),
            f"processes                        {self.starts}",
            *(f"  {name:<30} {count}" for name, count in sorted(self.ends.items())),
            f"disks lost                       {self.disks_lost}",
            f"  found on the Hub               {self.found}",
            f"two at the same place at once    {self.met}",
            f"refused for a stale parent       {self.collisions}",
            f"violations                       {len(self.violations)}",
            *(f"  {violation}" for violation in self.violations),
        ]


@dataclass(frozen=True, slots=True)
class Kill(Fault):
    """SIGKILL to the process that sends a request, before it is handled or after."""

    process: "subprocess.Popen[bytes]"
    done: bool

    def before(self, request: Request) -> None:
        del request
        if not self.done:
            self._kill()

    def after(self, request: Request, response: Response) -> Response:
        del request
        if self.done:
            self._kill()
        return response

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()


@dataclass(slots=True)
class Meet(Fault):
    """Two requests wait for each other, for a while: one of their processes may have found it done."""

    seconds: float = 20.0
    met: bool = False
    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(2))

    def before(self, request: Request) -> None:
        del request
        with suppress(threading.BrokenBarrierError):
            self.barrier.wait(self.seconds)
            self.met = True


class Campaign:
    """Rounds of random numbers of shards."""

    def __init__(self, folder: Path, seed: int, counts: Sequence[int] = (2, 3, 5, 7)) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._counts = counts
        self.report = Report()

    def run(self, rounds: int) -> Report:
        for number in range(rounds):
            folder = self._folder / str(number)
            self.round(folder, self._random.choice(self._counts))
            shutil.rmtree(folder)
        return self.report

    def round(self, folder: Path, count: int) -> None:
        folder.mkdir(parents=True)
        with HubServer() as hub:
            hub.add_user("ana", token=TOKEN)
            hub.add_token("ana", READER, "read")
            this = _Round(Scene(hub, folder), count, random.Random(self._random.random()), self.report)
            try:
                this.run()
            except AssertionError as error:
                self.report.violations.append(f"round {folder.name} of {count} shards: {' '.join(str(error).split())[:600]}")
        self.report.rounds[count] += 1


class _Round:
    """One run, of so many shards, on a Hub of its own."""

    def __init__(self, scene: Scene, count: int, chance: random.Random, report: Report) -> None:
        self._scene, self._count, self._random, self._report = scene, count, chance, report
        self._starts = 0
        self._contributed: set[int] = set()

    def run(self) -> None:
        whole = self._scene.folder / "whole"
        assert run_job(**self._variables(whole, None) | {"PUSH_TO_HUB": "false"}).code == 0
        *first, one, other = self._random.sample(range(self._count), self._count)
        for index in first:
            self._until_done(index)
        if both_are_there := self._random.random() < 0.5:
            self._until_done(one)
            self._killed_before_main(other)
        self._at_once(one, other, MAIN_COMMIT if both_are_there else BRANCH_COMMIT)
        for index in (one, other):
            self._until_done(index)
        again = self._random.randrange(self._count)
        self._lose_disk(again)
        self._check_end(again, self._end(again))
        self._check_published(read_table(results_folder(whole)))

    def _variables(self, output: Path, index: int | None) -> dict[str, Any]:
        shard = {} if index is None else {"SHARD_INDEX": index, "SHARD_COUNT": self._count}
        slow = {"ENGINE_ARGS": '{"delay_seconds": 0.05, "window": 2}', "HF_HOME": output / "home"}
        return self._scene.variables | {"OUTPUT_DIR": output} | shard | slow

    def _output(self, index: int) -> Path:
        return self._scene.folder / f"machine-{index}"

    def _until_done(self, index: int) -> None:
        """Disturb the shard a few times, then let it end; nothing disturbs others meanwhile."""
        for _ in range(self._random.randrange(3)):
            if self._disturbed(index):
                return
            if self._random.random() < 0.3:
                self._lose_disk(index)
        self._check_end(index, self._end(index))

    def _disturbed(self, index: int) -> bool:
        """Start the shard and end it at some moment, unless it is faster. Whether it came to its end."""
        with running(self._log(), self._variables(self._output(index), index), JOB) as job:
            kind = self._random.choice(["SIGKILL", "SIGTERM", *PLACES])
            if kind in PLACES:
                method, path = PLACES[kind]
                self._scene.hub.fail(Kill(job.process, self._random.random() < 0.5), method=method, path=path)
            else:
                with suppress(subprocess.TimeoutExpired):
                    job.process.wait(self._random.uniform(0.2, LONGEST_SECONDS))
                job.process.send_signal(getattr(signal, kind))
            outcome = job.end()
        self._scene.hub.recover()
        self._count_end(index, outcome)
        assert outcome.code in (0, -signal.SIGKILL, -signal.SIGTERM, 75), outcome.events[-1:]
        self._report.ends[f"{kind}: {'ended before' if outcome.code == 0 else 'ended by it'}"] += 1
        return outcome.code == 0

    def _killed_before_main(self, index: int) -> None:
        """Start the last shard and kill it as it publishes, so that all parts are on the branch."""
        with running(self._log(), self._variables(self._output(index), index), JOB) as job:
            self._scene.hub.fail(Kill(job.process, done=False), method="POST", path=MAIN_COMMIT)
            assert job.end().code == -signal.SIGKILL
        self._scene.hub.recover()
        self._contributed.add(index)

    def _at_once(self, one: int, other: int, place: str) -> None:
        """Both to their end, held where they meet, with a fault of the Hub perhaps."""
        fault, meet = self._random.choice(list(FAULTS)), Meet()
        self._scene.hub.fail(meet, method="POST", path=place, times=2)
        if trouble := FAULTS[fault]:
            self._scene.hub.fail(trouble, method="POST", path=place, skip=self._random.randrange(2))
        with ThreadPoolExecutor(2) as pool:
            ended = list(pool.map(self._end, (one, other)))
        self._scene.hub.recover()
        self._report.met += meet.met
        self._report.ends[f"two at once, fault: {fault}"] += 2
        for index, outcome in zip((one, other), ended, strict=True):
            self._check_end(index, outcome)

    def _end(self, index: int) -> Outcome:
        with running(self._log(), self._variables(self._output(index), index), JOB) as job:
            return job.end()

    def _log(self) -> Path:
        self._starts += 1
        self._report.starts += 1
        return self._scene.folder / "logs" / str(self._starts)

    def _count_end(self, index: int, outcome: Outcome) -> None:
        if outcome.of("shard_contributed") or outcome.code == 0:
            self._contributed.add(index)

    def _check_end(self, index: int, outcome: Outcome) -> None:
        assert outcome.code == 0, (index, outcome.events[-1:], outcome.stderr[-300:])
        kept = self._output(index).exists() and any(self._output(index).glob("*/*/shard-*/run.json"))
        if index in self._contributed and not kept:
            self._report.found += 1
            assert outcome.last["generated_rows"] == 0, (index, outcome.last)
        self._count_end(index, outcome)

    def _lose_disk(self, index: int) -> None:
        self._report.disks_lost += 1
        shutil.rmtree(self._output(index), ignore_errors=True)

    def _check_published(self, expected: pa.Table) -> None:
        repo: Repository = self._scene.repo()
        commits = [commit for commit in repo.history() if commit.title.startswith(TITLE)]
        assert len(commits) == 1, [commit.title for commit in commits]
        files = {path: content for path, content in repo.files().items() if path.endswith(".parquet")}
        names = [f"data/test-{index:05d}-of-{self._count:05d}.parquet" for index in range(self._count)]
        assert sorted(files) == names
        assert pa.concat_tables([pq.read_table(pa.BufferReader(files[name])) for name in names]).equals(expected)
        assert set(repo.branches) == {"main"}, list(repo.branches)
        self._report.collisions += sum(seen.status == 412 for seen in self._scene.hub.seen("POST", f"{REPO}{MAIN_COMMIT}"))
