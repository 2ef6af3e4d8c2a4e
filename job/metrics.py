"""The run's figures for Prometheus, and whether it is alive and ready, read from its account when somebody asks.

The work itself does nothing for it. What vLLM measures comes from prometheus_client's own registry, where vLLM puts it.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from job.effects import Account
from job.metrics_server import MakePage, Page
from job.records import Load

PREFIX = "answers_job"
_GENERATION = "generation"
_ENGINE_FAILED = Page(b"the engine failed\n", HTTPStatus.SERVICE_UNAVAILABLE)


class RunMetrics(Collector):
    """What a run has come to. It can be asked from the start of the process on."""

    def __init__(self, version: str, clock: Callable[[], float] = time.monotonic) -> None:
        """version: of the job; clock: the account's."""
        self._version = version
        self._clock = clock
        self._account = Account(clock)
        self._retries: Counter[str] = Counter()

    def show(self, account: Account) -> None:
        """The run's account is there."""
        self._account = account

    def count_retry(self, event: str) -> None:
        """An attempt at the Hub failed for a reason that passes. event: the one that is logged."""
        self._retries[event] += 1

    def collect(self) -> Iterable[Metric]:
        account = self._account
        yield InfoMetricFamily(PREFIX, "What runs.", {"version": self._version, **account.about})
        yield from _rows(account)
        yield _counter("prompt_tokens", "Tokens of the prompts of rows that this process finished.", account.prompt_tokens)
        yield _counter("completion_tokens", "Tokens of the answers that this process finished.", account.completion_tokens)
        seconds, current = account.so_far(), account.current
        yield _labelled("phase_seconds", "Seconds by phase of the run; that of now is still counting.", "phase", seconds)
        phase = {current[0]: 1.0} if current else {}
        yield _labelled("phase", "1 for the phase of now.", "phase", phase)
        retries = CounterMetricFamily(
            f"{PREFIX}_hub_retries", "Attempts at the Hub that failed and were repeated.", labels=["event"]
        )
        for event in ("hub_retry", "upload_retry"):
            retries.add_metric([event], self._retries[event])
        yield retries

    def alive(self) -> Page:
        """Whether there is still something to be waited for. That this answers at all is most of it."""
        if self._account.engine_failed:
            return _ENGINE_FAILED
        return Page(b"alive\n")

    def ready(self) -> Page:
        """Whether the engine answers rows: not before, and not after."""
        if self._account.engine_failed:
            return _ENGINE_FAILED
        current = self._account.current
        if not current:
            return Page(b"between two phases\n", HTTPStatus.SERVICE_UNAVAILABLE)
        phase, began = current
        if phase == _GENERATION:
            return Page(b"answers rows\n")
        return Page(f"{phase}, for {self._clock() - began:.0f} s\n".encode(), HTTPStatus.SERVICE_UNAVAILABLE)


def _rows(account: Account) -> Iterator[Metric]:
    done, failed, progress = account.found + account.answered, account.failed, account.progress
    rows = {} if account.rows is None else {"pending": account.rows - done - failed, "done": done, "failed": failed}
    yield _labelled("rows", "Rows of this process by state, those of earlier processes too.", "state", rows)
    lag = progress.lag if progress else 0
    yield _gauge("journal_lag_rows", "Rows that are finished and not on disk yet.", lag)
    load = progress.load if progress else Load()
    requests = {"running": load.running, "waiting": load.waiting}
    yield _labelled("requests", "Requests in flight by state: one for each sample of a row.", "state", requests)
    eta = progress.eta if progress else None
    if eta is not None:
        yield _gauge("eta_seconds", "Estimated seconds to the last row.", eta)


def _counter(name: str, documentation: str, value: float) -> Metric:
    return CounterMetricFamily(f"{PREFIX}_{name}", documentation, value)


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", documentation, value)


def _labelled(name: str, documentation: str, label: str, values: Mapping[str, float]) -> Metric:
    gauge = GaugeMetricFamily(f"{PREFIX}_{name}", documentation, labels=[label])
    for state, value in values.items():
        gauge.add_metric([state], value)
    return gauge


class _All(Collector):
    """Several registries as one."""

    def __init__(self, *registries: Collector) -> None:
        self._registries = registries

    def collect(self) -> Iterable[Metric]:
        for registry in self._registries:
            yield from registry.collect()


def pages(metrics: RunMetrics, others: Collector = REGISTRY) -> Mapping[str, MakePage]:
    """The pages by path. others: what else is measured in this process, by vLLM, and of the process itself."""
    everything = _All(metrics, others)

    def page() -> Page:
        # Plain, whatever is asked for: in OpenMetrics, prometheus_client 0.26 writes vllm_ for vllm: where it is a counter.
        return Page(generate_latest(everything), content_type=CONTENT_TYPE_PLAIN_0_0_4)

    return {"/metrics": page, "/healthz": metrics.alive, "/readyz": metrics.ready}
