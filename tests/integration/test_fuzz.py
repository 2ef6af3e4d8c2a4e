"""Some odd cases of each area. `python -m tests.fuzz` runs as many as one likes, and reduces what it finds."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fuzzing.campaign import AREAS, Campaign
from tests.fuzzing.case import Case, Edit, Put
from tests.fuzzing.verdict import SECRET, violations
from tests.fuzzing.worker import STARTS_AGAIN, Outcome, Worker

pytestmark = pytest.mark.slow
CASES = {"settings": 20, "templates": 8, "datasets": 8, "run folders": 12}


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return Campaign(tmp_path_factory.mktemp("fuzz"), number=1)


@pytest.fixture(scope="module")
def worker(campaign: Campaign) -> Iterator[Worker]:
    with campaign.worker("worker") as worker:
        yield worker


@pytest.mark.parametrize("area", AREAS)
def test_odd_input_is_explained_or_makes_no_difference(campaign: Campaign, worker: Worker, area: str) -> None:
    campaign.area(area, CASES[area], worker)
    report = campaign.report
    assert {what: str(report.smallest[of, what]) for of, what in report.found if of == area} == {}
    assert sum(count for (of, _), count in report.codes.items() if of == area) >= CASES[area]


def test_a_run_folder_that_is_damaged_is_noticed(campaign: Campaign, worker: Worker) -> None:
    """The measuring device itself: the job is told of a manifest and a parquet file that go with each other, and are wrong."""
    run = next(path for path in campaign.starts["finished"].glob("results/*/*/run.json") if "latest" not in path.parts)
    path = run.relative_to(campaign.starts["finished"]).parent.as_posix()
    parquet = f"{path}/data/test-00000-of-00001.parquet"
    damage = (Edit(parquet, "flip", 100, 3),)
    mended = worker.run(Case("run folders", (), damage, "finished"))
    assert (mended.code, mended.parquet) == (0, campaign.reference)
    gone = worker.run(Case("run folders", (), (Put(path, "file", b"x"),), "finished"))
    assert gone.code == 73
    assert campaign.judged(Case("run folders", start="finished"), gone) == []
    assert campaign.judged(Case("run folders", start="finished"), replace(mended, parquet=b"other")) == [
        "other results than those of an undisturbed run"
    ]


def _line(code: int = 0, message: str = "results/x: well") -> str:
    return json.dumps({"event": "run_finished", "exit_code": code, "message": message}) + "\n"


@pytest.mark.parametrize(
    ("outcome", "what"),
    [
        (Outcome(None, "", "", 1), "hangs"),
        (Outcome(-11, "", "", 1), "was ended by signal 11"),
        (Outcome(1, _line(1), "", 1), "exit code 1"),
        (Outcome(0, _line(73), "", 1), "the last line is no run_finished with this exit code and a message"),
        (Outcome(0, _line() + "more\n", "", 1), "the last line is no run_finished with this exit code and a message"),
        (Outcome(0, _line(), "oh", 1), "standard error: 'oh'"),
        (Outcome(0, _line(message=f"hf_{SECRET}"), "", 1), "says the secret"),
        (Outcome(0, _line(), "", 100), "is slow"),
        (Outcome(0, _line(), "", 1, peak=2**33), "eats memory"),
        (Outcome(0, _line(), "", 1, threads=("journal",)), "leaves threads: ['journal']"),
        (Outcome(0, _line(), "", 1, beside=("x",)), "writes outside of its folders"),
        (
            Outcome(1, 'Traceback (most recent call last):\n  File "/x/job/main.py", line 7, in main\nKeyError: 1\n', "", 1),
            "traceback: KeyError in job/main.py 7 main",
        ),
    ],
)
def test_what_must_not_be_is_a_violation(outcome: Outcome, what: str) -> None:
    assert list(violations(Case("settings"), outcome, b"")) == [what]


@pytest.mark.parametrize(
    ("outcome", "what"),
    [
        (Outcome(0, _line(), "", 1, parquet=b""), "other results than those of an undisturbed run"),
        (Outcome(65, _line(65), "", 1), "exit code 65 for a damaged run folder"),
        (Outcome(73, _line(73, "damaged"), "", 1), "does not name the file"),
        (Outcome(73, _line(73), "", 1, again=STARTS_AGAIN), "asks for the same command again and again"),
    ],
)
def test_a_run_folder_has_to_show_more(outcome: Outcome, what: str) -> None:
    case = Case("run folders", start="finished")
    assert list(violations(case, outcome, b"whole")) == [what]
    assert list(violations(replace(case, start=""), outcome, b"whole")) == []


def test_a_console_line_is_read_too() -> None:
    outcome = Outcome(78, "2026-01-01 [error] run_finished [job.summary] exit_code=78 message='STOP: wrong'\n", "", 1)
    assert list(violations(Case("settings"), outcome, b"")) == []


def test_a_case_is_its_repr(tmp_path: Path) -> None:
    case = Case("settings", (("A", "@@/x"),), (Put("a/b", "file", b"\x00\xff"), Edit("a/b", "cut", 1)))
    assert eval(repr(case)) == case
    here = case.lay_out(tmp_path / "case", {})
    assert (here / "a" / "b").read_bytes() == b"\x00"
    assert case.environ(here, {"B": "b"}) == {"A": f"{here}/x", "B": "b"}
