"""Power cuts at any moment of a run, on a model of the disk: what the log had called safe is there, and the run goes on.

A chain is one run that is recorded (see system_calls.py), cut short at a random moment, started again from what is left, and so
on. At many moments of each record the power is cut on a disk that keeps what was synced and any part of the rest (see
lossy_disk.py); what it may leave is held against the promises of the log:
    the journal is sound, after the rollback that SQLite owes;
    so many rows are in it as the log had called safe, and each is what an undisturbed run has at that position;
    a folder with run.json is whole, and it is there once the log has said so.
A chain is cut short by a power cut, or by SIGKILL: then the next process works on what the last one had not synced, and trusts
it. At the end the results are those of an undisturbed run, byte for byte.
"""

import json
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.integration.kills import Rows, snapshot
from tests.integration.lossy_disk import Call, LossyDisk, Tree, restore, tree_of
from tests.integration.promises import Promise, run_undisturbed, settings
from tests.integration.system_calls import record
from tests.support import JOB, described_alike, finished_rows, parquet_bytes, results_folder, untimed

HOLDER = "holder.json"
ENDS = ("power cut", "SIGKILL")


@dataclass(slots=True)
class CutReport:
    """cuts: by what was there; ended: how chains were cut short."""

    chains: int = 0
    processes: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    cuts: int = 0
    hot: int = 0
    torn: int = 0
    with_rows: int = 0
    with_results: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    identical: int = 0
    violations: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        calls = ", ".join(f"{what} {count}" for what, count in sorted(self.calls.items()))
        return [
            f"chains                           {self.chains}, {self.processes} processes",
            f"recorded                         {calls}",
            f"power cuts on the disk's model   {self.cuts}",
            f"  with rows called safe          {self.with_rows}",
            f"  with results called safe       {self.with_results}",
            f"  with a hot rollback journal    {self.hot}",
            f"  the database half-written      {self.torn}",
            f"went on after a power cut        {self.ended['power cut']}",
            f"went on after SIGKILL            {self.ended['SIGKILL']}",
            f"results identical                {self.identical} of {self.chains}",
            f"violations                       {len(self.violations)}",
            *(f"  {violation}" for violation in self.violations[:10]),
        ]


class PowerCuts:
    """Chains in a folder of their own, all random choices from one seed."""

    def __init__(self, folder: Path, *, rows: int, seed: int) -> None:
        self._folder = folder
        self._chance = Random(seed)
        self._root = folder / "disk"  # the disk is lossy below this; the folder above the results is made by the job
        self._output = self._root / "made" / "results"
        self._settings = settings(folder, rows, OUTPUT_DIR=self._output)
        run_undisturbed({**self._settings, "OUTPUT_DIR": folder / "undisturbed"})
        self._rows: Rows = finished_rows(folder / "undisturbed")
        results = results_folder(folder / "undisturbed")
        card, plot = described_alike(results)
        self._files = {"parquet": parquet_bytes(results), "README.md": card.encode(), "test-lengths.png": plot}
        self.report = CutReport()

    def run(self, *, cuts: int, cuts_a_record: int, records: int) -> CutReport:
        """Chains of so many records each, until the power was cut so often."""
        while self.report.cuts < cuts:
            self.chain(cuts_a_record=cuts_a_record, records=records)
        return self.report

    def chain(self, *, cuts_a_record: int, records: int, ends: Sequence[str] = ENDS) -> None:
        """One run of so many processes. ends: what all but the last may be cut short by."""
        self.report.chains += 1
        restore({}, self._root)
        disk, promise = LossyDisk(self._root), Promise()
        for number in range(records):
            code, calls = record(JOB, self._settings, self._root, self._folder)
            self.report.processes += 1
            self.report.calls.update(call.what for call in calls)
            self._expect(code == 0, f"record {number} ended with {code}")
            how = self._chance.choice(ends)
            stop = self._chance.choice(_commits(calls)) if how == "SIGKILL" else self._moment(calls)
            ended = self._cut_along(disk, calls, promise, cuts_a_record, stop)
            if number < records - 1:
                disk, promise = self._cut_short(how, *ended)
        self._check_end()

    def _cut_along(
        self, disk: LossyDisk, calls: Sequence[Call], promise: Promise, cuts: int, stop: int
    ) -> tuple[LossyDisk, Promise]:
        """Cut the power at random moments of a record. Returns: the disk at the moment `stop`, and what had been promised."""
        moments = Counter(self._moment(calls) for _ in range(cuts))
        at_stop, said = (disk, promise), b""
        for moment in range(len(calls) + 1):
            if moment == stop:
                at_stop = deepcopy(disk), promise
            for each in range(moments[moment]):
                self._check(disk.after_power_cut(self._chance if each or self._chance.random() < 0.8 else None), promise)
            if moment < len(calls):
                call = calls[moment]
                disk.apply(call)
                if call.what == "say":
                    *lines, said = (said + call.data).split(b"\n")
                    promise = promise.and_then(map(json.loads, lines))
        self._expect(disk.now() == tree_of(self._root), "the record is not all that the job did: the model needs more calls")
        return at_stop

    def _moment(self, calls: Sequence[Call]) -> int:
        """So many calls were made by then. Often that is beside one that is rare, and matters more than the many that write."""
        beside = self._chance.choice([number for number, call in enumerate(calls) if call.what not in ("write", "say")])
        return self._chance.choice([beside + self._chance.randint(0, 1), self._chance.randint(0, len(calls))])

    def _cut_short(self, how: str, disk: LossyDisk, promise: Promise) -> tuple[LossyDisk, Promise]:
        """Leave for the next process what a power cut or SIGKILL leaves at this moment."""
        self.report.ended[how] += 1
        if how == "SIGKILL":
            restore(disk.now(), self._root)
            return disk, promise
        left = disk.after_power_cut(self._chance)
        # Another kernel would wait for a sign of life of this holder: tests/unit/test_run_lock.py.
        tree = {name: content for name, content in left.items() if Path(name).name != HOLDER}
        restore(tree, self._root)
        return LossyDisk(self._root, tree), promise

    def _check(self, left: Tree, promise: Promise) -> None:
        """Hold what a power cut leaves against what was promised before it."""
        report = self.report
        disk = self._folder / "cut"
        restore(left, disk)
        found = snapshot(disk / "made" / "results", self._folder / "copy")
        report.cuts += 1
        report.hot += found.hot
        report.torn += found.torn
        report.with_rows += promise.rows > 0
        report.with_results += promise.results
        self._expect(found.sound, "the journal is damaged")
        broken = promise.broken_by(found.rows, self._rows)
        self._expect(not broken, broken)
        whole = any(Path(name).name == "run.json" for name in left)
        self._expect(whole or not promise.results, "the results were called safe, and run.json is not there")
        if whole:
            files = {Path(name).name.replace("test-00000-of-00001.", ""): content for name, content in left.items()}
            card = files.get("README.md")
            files["README.md"] = untimed(card.decode("utf-8", "replace")).encode() if isinstance(card, bytes) else card
            torn = [name for name, content in self._files.items() if files.get(name) != content]
            self._expect(not torn, f"run.json is there, and not as they should be: {torn}")

    def _check_end(self) -> None:
        results = results_folder(self._output)
        card, plot = described_alike(results)
        same = (parquet_bytes(results), card.encode(), plot) == tuple(self._files.values())
        self._expect(same, "the results differ from an undisturbed run's")
        self.report.identical += same

    def _expect(self, holds: bool, violation: str) -> None:
        if not holds:
            self.report.violations.append(f"chain {self.report.chains}, process {self.report.processes}: {violation}")


def _commits(calls: Sequence[Call]) -> Sequence[int]:
    """Moments when rows have just been committed for whoever reads them, and not yet for the disk; else the end."""
    commits = [number + 1 for number, call in enumerate(calls) if call.what == "resize" and call.path.name.endswith("-journal")]
    return commits[len(commits) // 2 :] or [len(calls)]
