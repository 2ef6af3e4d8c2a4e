"""Reading what a process says of itself over HTTP."""

import http.client
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

SECONDS = 20.0
Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str


def ask(port: int, path: str, method: str = "GET", host: str = "127.0.0.1") -> Answer:
    """What comes back. Raises: OSError where nothing listens there."""
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read().decode())
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Scrape:
    """The samples of a page, by their names and labels."""

    samples: Mapping[tuple[str, Labels], float]

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.samples}

    def value(self, name: str, **labels: str) -> float:
        return self.samples[name, frozenset(labels.items())]

    def by(self, name: str, label: str) -> dict[str, float]:
        """The values of a metric by one of its labels."""
        return {dict(labels)[label]: value for (found, labels), value in self.samples.items() if found == name}

    def labels(self, name: str) -> dict[str, str]:
        """Those of a metric that is there once."""
        (labels,) = (labels for found, labels in self.samples if found == name)
        return dict(labels)


def parsed(text: str) -> Scrape:
    families = text_string_to_metric_families(text)
    return Scrape({(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples})


def scrape(port: int) -> Scrape:
    answer = ask(port, "/metrics")
    assert answer.status == 200, answer
    return parsed(answer.text)
