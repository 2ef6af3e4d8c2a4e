"""Cases by the thousand, counted, and each violation reduced to the smallest case that shows it.

hypothesis makes the cases and reduces them. A violation that is known is counted and otherwise left alone, so that one mistake
does not end the search for the next.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from tests.fuzzing import datasets, environments, run_folders, templates
from tests.fuzzing.case import Case
from tests.fuzzing.verdict import OUTPUT, SECRET, violations
from tests.fuzzing.worker import Outcome, Worker
from tests.support import ECHO, run_job

# Shares of the cases.
AREAS: Mapping[str, float] = {"settings": 0.55, "templates": 0.1, "datasets": 0.15, "run folders": 0.2}
ALONE_EVERY = 200  # one case in so many runs in a process of its own too
CHUNK = 500  # cases of one seed
REDUCE_SECONDS = 20.0
COSTLY = ("hangs", "is slow", "eats memory")  # these are left as they were found


@dataclass(slots=True)
class Report:
    """Counts, and the smallest case of every violation. codes: by area and exit code."""

    codes: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    alone: Counter[str] = field(default_factory=Counter)
    again: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    smallest: dict[tuple[str, str], Case] = field(default_factory=dict)
    deaths: int = 0

    @property
    def cases(self) -> int:
        return self.codes.total()

    def lines(self) -> list[str]:
        lines = []
        for area in AREAS:
            codes = {code: count for (of, code), count in self.codes.items() if of == area}
            lines.append(
                f"{area:<12} {sum(codes.values()):>6} cases, {self.alone[area]} of them in a process of their own too, "
                f"{self.again[area]} started again, {self.seconds[area]:.0f} s"
            )
            lines += [f"  exit code {code!s:>4} {count:>6}" for code, count in sorted(codes.items(), key=str)]
        lines += [f"cases {self.cases}", f"workers that died {self.deaths}", f"violations {len(self.found)}"]
        for (area, what), count in sorted(self.found.items()):
            lines += [f"  {area}: {what} ({count} cases)", f"    --replay {str(self.smallest[area, what])!r}"]
        return lines


class _ViolationError(Exception):
    pass


class Campaign:
    """Cases in a folder of its own."""

    def __init__(self, folder: Path, number: int) -> None:
        """number: the seed of all random choices."""
        self._folder = folder
        self._seed = number
        self.report = Report()
        (folder / "starts").mkdir(parents=True)
        self.starts, self._data, self.reference = run_folders.make_starts(folder / "starts", _run)

    def run(self, cases: int, areas: Sequence[str] = tuple(AREAS), jobs: int = 1) -> Report:
        """So many cases, shared among the areas; jobs: areas at the same time."""
        shares = {area: AREAS[area] / sum(AREAS[each] for each in areas) for area in areas}
        with ThreadPoolExecutor(jobs) as pool:
            for _ in pool.map(lambda area: self._area(area, round(cases * shares[area])), areas):
                pass
        return self.report

    def _area(self, area: str, cases: int) -> None:
        with self.worker(area.replace(" ", "-")) as worker:
            self.area(area, cases, worker)
            self.report.deaths += worker.deaths

    def area(self, area: str, cases: int, worker: Worker) -> None:
        """So many cases of one area."""
        strategies: Mapping[str, Callable[[], st.SearchStrategy[Case]]] = {
            "settings": environments.cases,
            "templates": templates.cases,
            "datasets": datasets.cases,
            "run folders": lambda: run_folders.cases(self.starts),
        }
        strategy = strategies[area]()
        started = time.monotonic()
        done, chunk = 0, 0
        while done < cases:
            before = self._done(area)
            self._chunk(area, worker, strategy, min(CHUNK, cases - done), chunk)
            done += self._done(area) - before
            chunk += 1
            sys.stderr.write(f"{area}: {done} of {cases} cases, {time.monotonic() - started:.0f} s\n")
        self.report.seconds[area] += round(time.monotonic() - started)

    def worker(self, name: str) -> Worker:
        """A worker with a folder of this name."""
        base = {**ECHO, "LOG_FORMAT": "json", "OUTPUT_DIR": OUTPUT, "HF_TOKEN": f"hf_{SECRET}123"}
        bases = dict.fromkeys(AREAS, base) | {
            "settings": base | {"DATASET_ID": "rows.jsonl"},
            "datasets": base | {"MAX_FAILED_ROWS": "99"},
            "run folders": base | {"DATASET_ID": str(self._data)},
        }
        return Worker(self._folder / name, bases, self.starts)

    def judged(self, case: Case, outcome: Outcome) -> list[str]:
        """What is wrong with what a case came to."""
        return list(violations(case, outcome, self.reference))

    def _done(self, area: str) -> int:
        return sum(count for (of, _), count in self.report.codes.items() if of == area)

    def _chunk(self, area: str, worker: Worker, strategy: st.SearchStrategy[Case], cases: int, chunk: int) -> None:
        """Cases of one seed, until they are done or a new violation was reduced."""
        counting, target, until = [True], [""], [float("inf")]

        @seed(self._seed * 1_000_003 + chunk)
        @settings(
            max_examples=cases,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            print_blob=False,
        )
        @given(strategy)
        def check(case: Case) -> None:
            if time.monotonic() > until[0]:  # reduced for long enough: only what is known still fails
                found = [target[0]] if case == self.report.smallest[area, target[0]] else []
            else:
                found = self._found(area, worker, case, counted=counting[0])
            fresh = [what for what in found if (area, what) not in self.report.smallest or what == target[0]]
            if fresh:
                if counting[0]:
                    until[0] = time.monotonic() + (0 if fresh[0] in COSTLY else REDUCE_SECONDS)
                counting[0] = False
                target[0] = target[0] if target[0] in fresh else target[0] or fresh[0]
            if target[0] in found:
                self.report.smallest[area, target[0]] = case  # the last one is the smallest
                raise _ViolationError(target[0])

        try:
            check()
        except (_ViolationError, Flaky):
            sys.stderr.write(f"{area}: {target[0]}\n  --replay {str(self.report.smallest[area, target[0]])!r}\n")

    def _found(self, area: str, worker: Worker, case: Case, *, counted: bool) -> list[str]:
        outcome = worker.run(case)
        found = self.judged(case, outcome)
        if not counted:
            return found
        self.report.codes[area, outcome.code] += 1
        self.report.again[area] += outcome.again
        if self._done(area) % ALONE_EVERY == 1 or (
            found and not set(found) <= {what for of, what in self.report.found if of == area}
        ):
            self.report.alone[area] += 1
            found += [f"alone: {what}" for what in self.judged(case, worker.run_process(case)) if what not in found]
        self.report.found.update((area, what) for what in found)
        for what in found:
            if what.startswith("alone: "):
                self.report.smallest.setdefault((area, what), case)
        return found


def _run(variables: Mapping[str, object]) -> None:
    outcome = run_job(**ECHO, **variables)
    assert outcome.code == 0, outcome.last
