"""A run with real vLLM that is watched: both its own figures and vLLM's, and the same answers as without."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.dashboard import metrics
from tests.processes import command_of, descendants
from tests.scraping import Scrape, ask, scrape
from tests.support import Outcome, RunningJob, parquet_bytes, read_table, results_folder, running

pytestmark = [pytest.mark.slow, pytest.mark.vllm]
HELD_JOB = [sys.executable, "-m", "tests.integration.held_job"]
SECONDS = 180


@dataclass(frozen=True)
class Watched:
    """What was seen of a run. readiness: of /readyz, in the order in which it came; children: of the job, while rows were
    answered, those that had its listening socket open; busy: the page then; last: the one before it was published.
    """

    outcome: Outcome
    folder: Path
    readiness: list[tuple[int, str]]
    health: set[int]
    children: Mapping[int, bool]
    busy: Scrape
    last: Scrape


def _watch(job: RunningJob, folder: Path) -> Watched:
    port = int(job.event("metrics_listening")["port"])
    readiness: list[tuple[int, str]] = []
    health: set[int] = set()

    def ready() -> bool | None:
        answer, alive = ask(port, "/readyz"), ask(port, "/healthz")
        readiness.append((answer.status, answer.text.split(",")[0].strip()))
        health.add(alive.status)
        return answer.status == 200 or None

    job.until(ready, SECONDS)

    def at_work() -> Scrape | None:
        page = scrape(port)
        return page if page.by("answers_job_requests", "state")["running"] else None

    busy = job.until(at_work, SECONDS)
    inode = _listening_inode(job.process.pid, port)
    children = {pid: inode in _open_files(pid) for pid in descendants(job.process.pid) if command_of(pid)}

    def all_there() -> Scrape | None:
        page = scrape(port)
        return page if "publication" in page.by("answers_job_phase", "phase") else None

    last = job.until(all_there, SECONDS)
    (folder / "publish").touch()
    outcome = job.end()
    return Watched(outcome, results_folder(folder / "results"), readiness, health, children, busy, last)


def _open_files(pid: int) -> set[str]:
    return {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()}


def _listening_inode(pid: int, port: int) -> str:
    """The socket of a process that listens on a port, as /proc names it."""
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if int(local.rsplit(":", 1)[1], 16) == port and state == "0A":
                return f"socket:[{inode}]"
    raise LookupError(port)


@pytest.fixture(scope="module")
def watched(greedy_settings: Mapping[str, object], tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("watched")
    (folder / "start").touch()
    own = {"METRICS_PORT": 0, "HUB_NAMESPACE": "me", "HOLD": folder, "OUTPUT_DIR": folder / "results", "CANARY": "false"}
    with running(folder / "log", {**greedy_settings, **own, "PROGRESS_SECONDS": 1}, HELD_JOB) as job:
        return _watch(job, folder)


def test_answers_and_identity_are_those_of_a_run_that_nobody_watches(watched: Watched, greedy_folder: Path) -> None:
    assert watched.outcome.code == 0
    assert watched.folder.name == greedy_folder.name
    assert read_table(watched.folder).equals(read_table(greedy_folder))
    assert parquet_bytes(watched.folder) == parquet_bytes(greedy_folder)


def test_it_is_not_ready_while_the_engine_starts_and_then_it_is(watched: Watched) -> None:
    *before, last = watched.readiness
    assert last == (200, "answers rows")
    assert {status for status, _ in before} == {503}
    assert (503, "engine_start") in before
    assert watched.health == {200}


def test_the_start_is_told_by_its_phases(watched: Watched) -> None:
    told = watched.outcome.of("engine_start_progress")
    phases = [line["phase"] for line in told]
    assert phases == sorted(phases, key=["files", "import", "config", "engine"].index)
    assert {"import", "engine"} <= set(phases)
    assert len(told) > watched.outcome.of("engine_ready")[0]["seconds"] / 2


def test_the_figures_are_those_of_the_manifest_and_of_vllm(watched: Watched) -> None:
    facts = json.loads((watched.folder / "run.json").read_text(encoding="utf-8"))
    counts, page = facts["counts"], watched.last
    assert page.by("answers_job_rows", "state") == {"pending": 0, "done": counts["rows"], "failed": 0}
    for ours, theirs in (("prompt_tokens", "prompt_tokens"), ("completion_tokens", "generation_tokens")):
        (told,) = page.by(f"vllm:{theirs}_total", "model_name").values()
        assert page.value(f"answers_job_{ours}_total") == counts[ours] == told
    seconds = page.by("answers_job_phase_seconds", "phase")
    assert facts["seconds"].items() <= seconds.items()
    assert "engine_start.weights" in seconds
    assert sum(page.by("vllm:request_success_total", "finished_reason").values()) == counts["rows"]


def test_requests_at_work_are_those_of_vllms_scheduler(watched: Watched) -> None:
    """max_num_seqs is more than there are rows, so nothing waits for long."""
    requests = watched.busy.by("answers_job_requests", "state")
    assert requests["running"] >= 1
    assert requests["running"] + requests["waiting"] <= 10
    events = watched.outcome.of("progress")
    assert any(event["running"] for event in events[:-1])
    assert (events[-1]["running"], events[-1]["waiting"]) == (0, 0)


def test_vllm_names_the_model_as_the_job_does(watched: Watched) -> None:
    """Its own name would be the folder that the model was found in."""
    names = {value for _, labels in watched.last.samples for label, value in labels if label == "model_name"}
    assert names == {watched.last.labels("answers_job_info")["model"]}


def test_every_metric_of_the_dashboard_is_on_the_page(watched: Watched) -> None:
    assert len(metrics()) > 15
    assert metrics() - watched.busy.names - watched.last.names == set()


def test_the_engines_processes_do_not_listen(watched: Watched) -> None:
    assert len(watched.children) >= 2
    assert not any(watched.children.values())
