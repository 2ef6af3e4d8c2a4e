"""What a run cost, over all of its processes: in run.json, on the card, in the report and in the last line of the log."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from job import pipeline
from job.effects import Effects
from job.protocols import Engine
from job.records import RunSummary
from job.report.writing import write_report
from job.settings import Settings
from job.shutdown import StopSignal
from job.spending import SPENT
from tests.support import ECHO, finished_rows, results_folder, run_job, running, write_jsonl
from tests.wrapped import WrappedEngine, wrapping

pytestmark = pytest.mark.slow
SLOW = '{"delay_seconds": 0.2, "window": 2}'


class OnGpus(WrappedEngine):
    """The echo engine, as if it held some GPUs."""

    def __init__(self, engine: Engine, gpus: int) -> None:
        super().__init__(engine)
        self.facts = {**engine.facts, "gpus": gpus, "device": "a GPU"}


class Clock:
    """Every look at it takes a second."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += 1
        return self.seconds


def run_on(gpus: int, variables: Mapping[str, object]) -> RunSummary:
    settings = Settings.from_env({name: str(value) for name, value in variables.items()})
    choose = wrapping(lambda engine: OnGpus(engine, gpus))
    return pipeline.run(settings, Effects(StopSignal(), choose, bind_log=lambda **_: None, clock=Clock()))


def budget_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))["budget"]
    return found


@pytest.fixture
def variables(three_rows: Path, output: Path) -> dict[str, object]:
    return {**ECHO, "DATASET_ID": three_rows, "OUTPUT_DIR": output}


def test_gpu_seconds_tokens_and_cost_stand_everywhere(variables: dict[str, object], tmp_path: Path) -> None:
    summary = run_on(2, variables | {"GPU_PRICE_PER_HOUR": 7.2})
    budget = budget_of(summary.folder)
    assert budget == summary.budget
    assert (budget["processes"], budget["complete"], budget["gpu_price_per_hour"]) == (1, True, 7.2)
    assert budget["seconds"] > sum(summary.seconds.values()) - summary.seconds["results"]
    assert budget["gpu_seconds"] == 2 * budget["seconds"]
    tokens = summary.tally.completion_tokens
    assert budget["tokens_per_gpu_second"] == pytest.approx(tokens / budget["gpu_seconds"], abs=0.05)
    assert budget["cost"] == pytest.approx(budget["gpu_seconds"] / 3600 * 7.2, abs=5e-5)
    card = (summary.folder / "README.md").read_text(encoding="utf-8")
    assert (
        f"| GPU seconds, of 1 process | {budget['gpu_seconds']:,.1f}, with {budget['tokens_per_gpu_second']:,.1f} answer"
        in card
    )
    assert f"| cost | {budget['cost']}, at 7.2 for a GPU and hour |" in card
    written = tmp_path / "report.html"
    write_report([str(summary.folder)], written, lambda: pytest.fail("nothing is on the Hub"))
    page = written.read_text(encoding="utf-8")
    assert f"<dt>GPU seconds</dt><dd>{budget['gpu_seconds']:.1f}</dd>" in page
    assert f"<dt>Tokens/GPU s</dt><dd>{budget['tokens_per_gpu_second']:.1f}</dd>" in page
    assert f"<dt>Cost</dt><dd>{budget['cost']}</dd>" in page


def test_the_last_line_has_the_budget(variables: dict[str, object], output: Path) -> None:
    outcome = run_job(**variables, GPU_PRICE_PER_HOUR=3)
    budget = budget_of(results_folder(output))
    assert outcome.last["budget"] == budget
    assert 0 < budget["seconds"] <= outcome.last["seconds"]
    assert (budget["gpu_seconds"], budget["cost"]) == (0, None), "the echo engine has no GPU"
    assert "Cost" not in outcome.last["message"]
    assert "GPU seconds" not in (results_folder(output) / "README.md").read_text(encoding="utf-8")


def test_a_price_is_no_part_of_the_identity_and_may_come_later(variables: dict[str, object]) -> None:
    first = run_on(4, variables)
    assert budget_of(first.folder)["cost"] is None
    assert "| cost |" not in (first.folder / "README.md").read_text(encoding="utf-8")
    second = run_on(4, variables | {"GPU_PRICE_PER_HOUR": 36})
    assert (second.folder, second.generated_rows) == (first.folder, 0)
    cost = round(budget_of(first.folder)["gpu_seconds"] / 100, 4)
    assert (second.budget["cost"], budget_of(second.folder)["cost"]) == (cost, cost)
    assert f"| cost | {cost}, at 36 for" in (second.folder / "README.md").read_text(encoding="utf-8")
    assert run_on(4, variables).budget["cost"] == cost


def test_a_run_that_goes_on_costs_what_both_processes_cost(variables: dict[str, object]) -> None:
    first = run_on(1, variables | {"MAX_ROWS": 1})
    second = run_on(2, variables)
    before, after = first.budget, second.budget
    assert (after["processes"], after["complete"]) == (2, True)
    assert before["gpu_seconds"] < after["gpu_seconds"]
    assert after["gpu_seconds"] > before["gpu_seconds"] + 2 * second.seconds["generation"]
    noted = json.loads((second.folder / SPENT).read_text())["processes"]
    assert [(each["gpus"], each["earlier_rows"]) for each in noted] == [(1, 0), (2, 1)]


def test_rows_of_before_there_was_an_account_make_it_a_lower_bound(variables: dict[str, object]) -> None:
    first = run_on(1, variables | {"MAX_ROWS": 1})
    (first.folder / SPENT).unlink()
    second = run_on(1, variables | {"GPU_PRICE_PER_HOUR": 36})
    assert (second.budget["processes"], second.budget["complete"]) == (1, False)
    assert second.budget["tokens_per_gpu_second"] is None
    card = (second.folder / "README.md").read_text(encoding="utf-8")
    assert f"| GPU seconds, of 1 process | at least {second.budget['gpu_seconds']:,.1f} |" in card
    assert f"| cost | at least {second.budget['cost']}, at 36 for" in card


def test_a_killed_process_is_in_the_account(output: Path, tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"instruction": f"Count to {number}."} for number in range(30)])
    variables = {**ECHO, "DATASET_ID": rows, "OUTPUT_DIR": output, "ENGINE_ARGS": SLOW, "PROGRESS_SECONDS": 0}
    with running(tmp_path / "log", variables) as job:
        killed_after = job.until(lambda: len(finished_rows(output)) or None)
        job.until(lambda: next(output.glob(f"*/*/{SPENT}"), None))
        job.process.kill()
        job.process.wait()
    outcome = run_job(**variables)
    assert 0 < outcome.last["generated_rows"] < 30
    budget, noted = outcome.last["budget"], json.loads((results_folder(output) / SPENT).read_text())["processes"]
    assert (budget["processes"], budget["complete"]) == (2, True)
    assert noted[0]["earlier_rows"] == 0
    assert noted[1]["earlier_rows"] >= killed_after
    assert budget["seconds"] > noted[0]["seconds"] > 0


def test_shards_are_added_up(variables: dict[str, object], output: Path) -> None:
    parts = [run_on(gpus, variables | {"SHARD_COUNT": 2, "SHARD_INDEX": index}) for index, gpus in ((0, 1), (1, 2))]
    whole = parts[1].budget
    second = budget_of(output / "echo-model" / parts[1].folder.name / "shard-00001-of-00002")
    assert whole == budget_of(parts[1].folder)
    assert (whole["processes"], whole["complete"]) == (2, True)
    assert whole["gpu_seconds"] == pytest.approx(parts[0].budget["gpu_seconds"] + second["gpu_seconds"])
    assert second["gpu_seconds"] == 2 * second["seconds"]
