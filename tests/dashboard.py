"""The dashboard for Grafana: what it asks Prometheus for."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.support import ROOT

FILE = ROOT / "k8s" / "grafana" / "dashboard.json"
WORDS = {"by", "group_left", "histogram_quantile", "increase", "label_values", "on", "rate", "sum"}
# Labels, in their three places, and spans of time.
_NO_NAMES = re.compile(r"\{[^}]*\}|\[[^]]*\]|\b(?:by|on|group_left) \([^)]*\)|, \w+\)$|\"[^\"]*\"")


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return read


def queries() -> Iterator[str]:
    """Every expression, of panels and of variables."""
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def metrics_of(query: str) -> set[str]:
    """The names of the metrics in an expression."""
    return set(re.findall(r"[a-zA-Z_:][\w:]*", _NO_NAMES.sub(" ", query))) - WORDS


def metrics() -> set[str]:
    """All names that the dashboard asks for."""
    return {name for query in queries() for name in metrics_of(query)}
