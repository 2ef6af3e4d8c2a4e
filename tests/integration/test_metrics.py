"""A run that is watched through METRICS_PORT, as a real process over real sockets."""

import json
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import HubServer, Status
from tests.integration.publishing import TOKEN, Scene
from tests.scraping import Scrape, ask, scrape
from tests.support import (
    ECHO,
    RunningJob,
    finished_rows,
    parquet_bytes,
    results_folder,
    run_job,
    running,
    write_jsonl,
)

pytestmark = pytest.mark.slow
HELD_JOB = [sys.executable, "-m", "tests.integration.held_job"]
ROWS, WINDOW = 40, 8
Settings = dict[str, object]


def settings(folder: Path, delay: float = 0.3, **more: object) -> Settings:
    data = write_jsonl(folder / "rows.jsonl", [{"instruction": f"Count to {number}."} for number in range(ROWS)])
    switches = json.dumps({"delay_seconds": delay, "window": WINDOW, "fail_every": 10})
    run = {**ECHO, "DATASET_ID": data, "ENGINE_ARGS": switches, "OUTPUT_DIR": folder / "results", "MAX_FAILED_ROWS": 4}
    return {**run, "METRICS_PORT": 0, **more}


def port_of(job: RunningJob) -> int:
    return int(job.event("metrics_listening")["port"])


def manifest(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((results_folder(folder / "results") / "run.json").read_text(encoding="utf-8"))
    return facts


@contextmanager
def held(folder: Path, **more: object) -> Iterator[RunningJob]:
    run = {**settings(folder), "HUB_NAMESPACE": "me", "HOLD": folder, **more}
    with running(folder / "log", run, HELD_JOB) as job:
        yield job


def in_phase(job: RunningJob, phase: str) -> Scrape:
    """The page, as soon as the run is in this phase."""
    port = port_of(job)

    def look() -> Scrape | None:
        page = scrape(port)
        return page if page.by("answers_job_phase", "phase") == {phase: 1} else None

    return job.until(look)


def fed(job: RunningJob, requests: int) -> Scrape:
    """The page, as soon as so many requests are with the engine."""
    port = port_of(job)

    def look() -> Scrape | None:
        page = scrape(port)
        return page if sum(page.by("answers_job_requests", "state").values()) == requests else None

    return job.until(look)


def is_free(port: int) -> bool:
    try:
        ask(port, "/healthz")
    except ConnectionRefusedError:
        return True
    return False


def test_the_figures_of_a_watched_run_are_those_of_its_manifest(tmp_path: Path) -> None:
    with held(tmp_path) as job:
        port = port_of(job)

        starting = in_phase(job, "engine_start")
        assert starting.by("answers_job_rows", "state") == {"pending": ROWS, "done": 0, "failed": 0}
        answer = ask(port, "/readyz")
        assert (answer.status, answer.text.startswith("engine_start, for ")) == (503, True)
        assert ask(port, "/healthz").status == 200

        (tmp_path / "start").touch()
        in_phase(job, "generation")
        assert (ask(port, "/readyz").status, ask(port, "/readyz").text) == (200, "answers rows\n")
        working = fed(job, WINDOW)  # the phase begins before the first request
        assert working.by("answers_job_requests", "state") == {"running": WINDOW, "waiting": 0}

        last = in_phase(job, "publication")
        assert ask(port, "/readyz").status == 503
        assert ask(port, "/healthz").status == 200
        (tmp_path / "publish").touch()
        ended = job.end()
    assert (ended.code, is_free(port)) == (0, True)

    facts = manifest(tmp_path)
    counts = facts["counts"]
    assert last.by("answers_job_rows", "state") == {"pending": 0, "done": ROWS - 4, "failed": 4}
    assert counts["rows"] - counts["failed_rows"] == ROWS - 4
    assert last.value("answers_job_prompt_tokens_total") == counts["prompt_tokens"]
    assert last.value("answers_job_completion_tokens_total") == counts["completion_tokens"]
    assert last.by("answers_job_requests", "state") == {"running": 0, "waiting": 0}
    assert last.value("answers_job_journal_lag_rows") == last.value("answers_job_eta_seconds") == 0
    seconds = last.by("answers_job_phase_seconds", "phase")
    complete = {phase: value for phase, value in seconds.items() if phase not in ("results", "publication")}
    assert complete.keys() == {"plan", "prompts", "engine_start", "canary", "generation", "engine_stop"}
    assert facts["seconds"].items() >= complete.items()
    assert ended.last["seconds_by_phase"].items() >= {"results": seconds["results"]}.items()
    labels = last.labels("answers_job_info")
    assert labels["run_id"] == results_folder(tmp_path / "results").name == ended.last["run_id"]
    assert (labels["model"], labels["engine"], labels["shard"]) == ("echo-model", "echo", "0/1")
    assert labels["version"] == facts["versions"]["job"]


def test_the_start_of_an_engine_is_never_silent(tmp_path: Path) -> None:
    with held(tmp_path, PROGRESS_SECONDS=1) as job:
        said = job.until(lambda: [line for line in job.events if line["event"] == "engine_start_progress"][1:2] or None)
        assert said[0]["phase"] == "engine"
        assert said[0]["seconds"] >= 2
        assert said[0]["run_id"] == results_folder(tmp_path / "results").name


def test_rows_of_earlier_processes_are_rows_and_their_tokens_are_not_this_ones(tmp_path: Path) -> None:
    with running(tmp_path / "log", settings(tmp_path)) as job:
        job.until(lambda: len(finished_rows(tmp_path / "results")) >= ROWS // 4 or None)
        job.process.kill()
        job.process.wait()
    answered = sum(bool(row[0]) for row in finished_rows(tmp_path / "results").values())
    with held(tmp_path) as job:
        page = in_phase(job, "engine_start")
        assert page.by("answers_job_rows", "state") == {"pending": ROWS - answered, "done": answered, "failed": 0}
        assert page.value("answers_job_prompt_tokens_total") == 0
        (tmp_path / "start").touch()
        page = in_phase(job, "publication")
        (tmp_path / "publish").touch()
        assert job.end().code == 0
    assert page.by("answers_job_rows", "state") == {"pending": 0, "done": ROWS - 4, "failed": 4}
    assert 0 < page.value("answers_job_prompt_tokens_total") < manifest(tmp_path)["counts"]["prompt_tokens"]


def test_a_port_in_use_is_said_before_anything_is_done(three_rows: Path, output: Path) -> None:
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        outcome = run_job(**ECHO, DATASET_ID=three_rows, OUTPUT_DIR=output, METRICS_PORT=port)
    assert outcome.code == outcome.last["exit_code"] == 78
    assert [line["event"] for line in outcome.events] == ["settings_loaded", "run_finished"]
    assert outcome.last["message"].startswith(f"METRICS_PORT='{port}': nothing can listen there (Address already in use)")
    assert outcome.last["seconds"] < 1
    assert not output.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signals_end_a_watched_run_as_any_other_and_the_port_is_free(number: signal.Signals, tmp_path: Path) -> None:
    with running(tmp_path / "log", settings(tmp_path, delay=1)) as job, ExitStack() as clients:
        port = port_of(job)
        in_phase(job, "generation")
        clients.enter_context(socket.create_connection(("127.0.0.1", port)))
        job.process.send_signal(number)
        ended = job.end()
        assert is_free(port)
        clients.enter_context(socket.create_server(("", port)))
    assert ended.code == (75 if number == signal.SIGTERM else -signal.SIGKILL)


def test_whoever_watches_and_however_badly_the_answers_are_the_same(tmp_path: Path) -> None:
    """Scrapes at once, clients that say nothing, that read nothing, and that talk nonsense."""
    alone = settings(tmp_path, OUTPUT_DIR=tmp_path / "alone", METRICS_PORT="")
    quiet = run_job(**alone)
    with running(tmp_path / "log", settings(tmp_path)) as job, ExitStack() as clients, ThreadPoolExecutor(16) as pool:
        port = port_of(job)
        job.event("engine_ready")
        for sent in (b"", b"GET /metrics HTTP/1.0\r\n\r\n", b"\x00\xff\r\n\r\n") * 10:
            client = clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(sent)
        statuses = list(pool.map(lambda _: ask(port, "/metrics").status, range(200)))
        ended = job.end()
    assert statuses == [200] * 200
    assert (ended.code, ended.stderr) == (quiet.code, quiet.stderr) == (0, "")
    assert (len(ended.of("metrics_listening")), quiet.of("metrics_listening")) == (1, [])
    assert ended.last["run_id"] == quiet.last["run_id"]
    assert parquet_bytes(results_folder(tmp_path / "results")) == parquet_bytes(results_folder(tmp_path / "alone"))


def test_waits_for_the_hub_are_counted_and_its_token_is_nowhere(hub: HubServer, scene: Scene) -> None:
    hub.fail(Status(503), times=2)
    with running(scene.folder / "log", scene.variables | {"METRICS_PORT": 0}) as job:
        port = port_of(job)

        def counted() -> float | None:
            return scrape(port).by("answers_job_hub_retries_total", "event")["hub_retry"] or None

        assert job.until(counted) >= 1
        for path in ("/metrics", "/healthz", "/readyz"):
            assert TOKEN not in ask(port, path).text
        assert ask(port, "/readyz").text.startswith("plan, for ")
        assert job.end().code == 0
