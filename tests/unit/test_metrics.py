"""The figures of a run, and whether it is alive and ready, from its account and a clock that tests move."""

from collections.abc import Mapping

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import Metric

from job.effects import Account
from job.metrics import RunMetrics, pages
from job.progress import Progress
from job.records import Load
from tests.scraping import Scrape, parsed
from tests.unit.builders import FakeClock, answered, failed


def scraped(metrics: RunMetrics) -> Scrape:
    return parsed(generate_latest(metrics).decode())


def asked(metrics: RunMetrics, path: str) -> tuple[int, str]:
    page = pages(metrics, CollectorRegistry())[path]()
    return int(page.status), page.body.decode()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def account(clock: FakeClock) -> Account:
    return Account(clock)


@pytest.fixture
def metrics(account: Account, clock: FakeClock) -> RunMetrics:
    made = RunMetrics("1.2.3", clock)
    made.show(account)
    return made


def test_before_there_is_a_run_it_says_so_and_is_alive() -> None:
    metrics = RunMetrics("1.2.3")
    assert scraped(metrics).labels("answers_job_info") == {"version": "1.2.3"}
    assert not scraped(metrics).by("answers_job_rows", "state")
    assert asked(metrics, "/healthz") == (200, "alive\n")
    assert asked(metrics, "/readyz")[0] == 503


def test_what_runs_is_said_in_labels(metrics: RunMetrics, account: Account) -> None:
    account.about = {"run_id": "abc", "model": 'a "model"\n', "shard": "0/1", "engine": "echo", "engine_version": "1"}
    assert scraped(metrics).labels("answers_job_info") == {"version": "1.2.3", **account.about}


def test_rows_and_tokens_are_those_of_the_account(metrics: RunMetrics, account: Account) -> None:
    account.rows, account.found = 10, 4
    for row in (answered(4), answered(5, "a", "b"), failed(6)):
        account.count(row)
    page = scraped(metrics)
    assert page.by("answers_job_rows", "state") == {"pending": 3, "done": 6, "failed": 1}
    assert page.value("answers_job_prompt_tokens_total") == 9
    assert page.value("answers_job_completion_tokens_total") == 21


def test_requests_lag_and_estimate_are_those_of_the_progress(metrics: RunMetrics, account: Account, clock: FakeClock) -> None:
    assert "answers_job_eta_seconds" not in scraped(metrics).names
    with Progress(10, 0, 10, None, clock, safe=lambda: 1, load=lambda: Load(5, 3)) as account.progress:
        for position in range(4):
            account.progress.add(answered(position))
        clock.now += 2
        page = scraped(metrics)
    assert page.by("answers_job_requests", "state") == {"running": 5, "waiting": 3}
    assert page.value("answers_job_journal_lag_rows") == 3
    assert page.value("answers_job_eta_seconds") == 3
    assert scraped(metrics).by("answers_job_requests", "state") == {"running": 0, "waiting": 0}


def test_seconds_of_the_phase_of_now_are_counting(metrics: RunMetrics, account: Account, clock: FakeClock) -> None:
    with account.phase("plan"):
        clock.now += 2
    account.add_parts("engine_start", {"weights": 1.5})
    with account.phase("engine_start"):
        clock.now += 3
        page = scraped(metrics)
    expected: Mapping[str, float] = {"plan": 2, "engine_start.weights": 1.5, "engine_start": 3}
    assert page.by("answers_job_phase_seconds", "phase") == expected
    assert page.by("answers_job_phase", "phase") == {"engine_start": 1}
    assert scraped(metrics).by("answers_job_phase", "phase") == {}


def test_retries_are_counted_by_what_is_tried_and_are_there_before_the_first(metrics: RunMetrics) -> None:
    assert scraped(metrics).by("answers_job_hub_retries_total", "event") == {"hub_retry": 0, "upload_retry": 0}
    for event in ("hub_retry", "upload_retry", "hub_retry"):
        metrics.count_retry(event)
    assert scraped(metrics).by("answers_job_hub_retries_total", "event") == {"hub_retry": 2, "upload_retry": 1}


@pytest.mark.parametrize("phase", ["plan", "prompts", "engine_start", "canary", "results", "publication"])
def test_it_is_not_ready_while_no_rows_are_answered_and_says_why(
    phase: str, metrics: RunMetrics, account: Account, clock: FakeClock
) -> None:
    with account.phase(phase):
        clock.now += 12
        assert asked(metrics, "/readyz") == (503, f"{phase}, for 12 s\n")
        assert asked(metrics, "/healthz") == (200, "alive\n")


def test_it_is_ready_while_rows_are_answered(metrics: RunMetrics, account: Account) -> None:
    with account.phase("generation"):
        assert asked(metrics, "/readyz") == (200, "answers rows\n")


def test_an_engine_that_failed_is_neither_alive_nor_ready(metrics: RunMetrics, account: Account) -> None:
    with account.phase("generation"):
        account.engine_failed = True
        assert asked(metrics, "/readyz") == (503, "the engine failed\n")
        assert asked(metrics, "/healthz") == (503, "the engine failed\n")


def test_what_others_measure_is_on_the_same_page_under_its_own_names(metrics: RunMetrics) -> None:
    registry = CollectorRegistry()
    Gauge("vllm:num_requests_running", "Theirs.", registry=registry).set(4)
    Counter("vllm:prompt_tokens", "Theirs.", registry=registry).inc(2)
    page = pages(metrics, registry)["/metrics"]()
    found = parsed(page.body.decode())
    assert page.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert found.value("vllm:num_requests_running") == 4
    assert found.value("vllm:prompt_tokens_total") == 2
    assert "answers_job_info" in found.names


def everything() -> list[Metric]:
    """All that there is, of a run in which something has happened."""
    clock = FakeClock()
    account = Account(clock)
    account.rows = 1
    account.about = dict.fromkeys(("run_id", "model", "shard", "engine", "engine_version"), "x")
    metrics = RunMetrics("1.2.3", clock)
    metrics.show(account)
    with Progress(1, 0, 10, None, clock) as account.progress, account.phase("generation"):
        account.progress.add(answered(0))
        return list(metrics.collect())


def test_names_follow_the_conventions_of_prometheus() -> None:
    families = everything()
    assert len({family.name for family in families}) == len(families) == 10
    for family in families:
        assert family.name.startswith("answers_job")
        assert family.documentation.endswith(".")
        assert family.samples, family.name
        assert all(sample.name.endswith("_total") == (family.type == "counter") for sample in family.samples)
        assert not family.name.endswith(("_minutes", "_ms", "_count"))
