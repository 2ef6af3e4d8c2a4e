"""Two jobs that publish into one repository at the same moment: held at a barrier in the Hub, so that they truly collide."""

import random
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.hub_server import Call, Fault, HubServer, LoseAnswer, Status
from tests.integration.publishing import COMMIT, PREUPLOAD, READER, ROWS, TOKEN, Scene, rows_of
from tests.support import Outcome, write_jsonl

SHARED = "ana/shared"
HOLD_SECONDS = 60.0
PLACES = {"making the repository": "/api/repos/create", "card": "validate-yaml", "upload": PREUPLOAD, "commit": COMMIT}
FAULTS: Mapping[str, Fault | None] = {"none": None, "lost answer": LoseAnswer(), "503": Status(503)}
CONFIGS = """\
---
configs:
- config_name: easy
  data_files: [{split: test, path: easy/test.jsonl}, {split: train, path: easy/train.jsonl}]
- config_name: hard
  data_files: [{split: test, path: hard/test.jsonl}]
---
"""


@dataclass(frozen=True, slots=True)
class Rival:
    """What one of the two answers; no configuration is that of a dataset that has none."""

    config: str | None
    split: str

    def manifests(self) -> tuple[str, str]:
        """Where its manifest may be: the first place is that of whichever split came first."""
        folder = f"{self.config}/" if self.config else ""
        return f"{folder}run.json", f"{folder}run-{self.split}.json"


PAIRS = {
    "two splits": (Rival(None, "test"), Rival(None, "train")),
    "two splits of a configuration": (Rival("easy", "test"), Rival("easy", "train")),
    "two configurations": (Rival("easy", "test"), Rival("hard", "test")),
}


@dataclass(slots=True)
class Report:
    """What a campaign saw. A collision is a commit that came too late for its parent."""

    races: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    met: int = 0
    collisions: int = 0
    attempts: Counter[int] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        return [
            f"races                            {self.races.total()}",
            *(f"  {name:<30} {count}" for name, count in sorted(self.races.items())),
            *(f"  held: {name:<24} {count}" for name, count in sorted(self.places.items())),
            *(f"  fault: {name:<23} {count}" for name, count in sorted(self.faults.items())),
            f"both were held at once           {self.met}",
            f"refused for a stale parent       {self.collisions}",
            *(f"  published at attempt {number:<9} {count}" for number, count in sorted(self.attempts.items())),
            f"violations                       {len(self.violations)}",
            *(f"  {violation}" for violation in self.violations),
        ]


class Campaign:
    """Races of all kinds, chosen by chance."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self.report = Report()

    def run(self, races: int) -> Report:
        for number in range(races):
            pair, place, fault = (self._random.choice(list(each)) for each in (PAIRS, PLACES, FAULTS))
            self.race(f"{number}", pair, place, fault)
        return self.report

    def race(self, name: str, pair: str, place: str, fault: str) -> None:
        """One race, into a repository of its own."""
        folder = self._folder / name
        folder.mkdir(parents=True)
        with HubServer() as hub:
            hub.add_user("ana", token=TOKEN)
            hub.add_token("ana", READER, "read")
            scene = Scene(hub, folder)
            held = Held()
            hub.fail(Call(lambda _: held.wait()), method="POST", path=PLACES[place], times=2)
            if trouble := FAULTS[fault]:
                hub.fail(trouble, method="POST", path=COMMIT, skip=self._random.randrange(2))
            outcomes = both(scene, PAIRS[pair])
            hub.recover()
            try:
                check(scene, outcomes)
            except AssertionError as error:
                self.report.violations.append(f"race {name} ({pair}, {place}, {fault}): {' '.join(str(error).split())[:600]}")
            self._count(pair, place, fault, held, scene, outcomes)

    def _count(self, pair: str, place: str, fault: str, held: "Held", scene: Scene, outcomes: Mapping[Rival, Outcome]) -> None:
        report = self.report
        report.races[pair] += 1
        report.places[place] += 1
        report.faults[fault] += 1
        report.met += held.met
        report.collisions += sum(seen.status == 412 for seen in scene.hub.seen("POST", COMMIT))
        report.attempts.update(1 + len(outcome.of("upload_retry")) for outcome in outcomes.values())


class Held:
    """A place where two requests wait for each other."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2)
        self.met = False

    def wait(self) -> None:
        try:
            self._barrier.wait(HOLD_SECONDS)
        except threading.BrokenBarrierError:
            return
        self.met = True


def both(scene: Scene, pair: tuple[Rival, Rival]) -> Mapping[Rival, Outcome]:
    """Two real jobs at the same time."""
    source = {True: several(scene.folder / "several"), False: plain(scene.folder / "plain")}

    def run(rival: Rival) -> Outcome:
        return scene.run(
            DATASET_ID=source[rival.config is not None],
            DATASET_CONFIG=rival.config or "",
            DATASET_SPLIT=rival.split,
            HUB_REPO_ID=SHARED,
            HF_HOME=scene.folder / f"home-{rival.config}-{rival.split}",
        )

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(pair, pool.map(run, pair), strict=True))


def check(scene: Scene, outcomes: Mapping[Rival, Outcome]) -> None:
    """Both ended well; there are two commits, two manifests, and what each left on disk loads from the repository."""
    for rival, outcome in outcomes.items():
        assert (outcome.code, outcome.last.get("generated_rows")) == (0, ROWS), (rival, outcome.last)
    oids = {commit.oid for commit in scene.commits(SHARED)}
    assert len(scene.commits(SHARED)) == 2, [commit.title for commit in scene.commits(SHARED)]
    assert {outcome.last["commit"] for outcome in outcomes.values()} == oids
    files = scene.repo(SHARED).files()
    for rival, outcome in outcomes.items():
        own = (Path(str(outcome.last["results"])) / "run.json").read_bytes()
        (manifest,) = {path for path in rival.manifests() if files.get(path) == own}
        scene.check_content(outcome, repo_id=SHARED, config=rival.config, split=rival.split, manifest=manifest)
    assert sum("run" in Path(path).name and path.endswith(".json") for path in files) == 2, sorted(files)


def plain(folder: Path) -> Path:
    """A dataset of two splits."""
    folder.mkdir(exist_ok=True)
    for split in ("test", "train"):
        write_jsonl(folder / f"{split}.jsonl", rows_of(split))
    return folder


def several(folder: Path) -> Path:
    """A dataset with a configuration of two splits and one of one."""
    for name in ("easy/test", "easy/train", "hard/test"):
        file = folder / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(file, rows_of(name))
    (folder / "README.md").write_text(CONFIGS)
    return folder
