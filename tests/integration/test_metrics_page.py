"""What docs/metrics.md tells people to run, run; its tables and files, against what there is."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.manifests import kustomize
from tests.dashboard import metrics_of
from tests.scraping import parsed
from tests.support import ECHO, ROOT, typed, write_jsonl
from tests.unit.test_metrics import everything

PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
# The virtual environment is there, whatever the dates of its marks: -o has make leave it alone.
MAKE = 'make() { command make -o .venv/.cpu -o .venv/.dev "$@"; }'


def _block(language: str, first: str = "") -> str:
    (found,) = (text for text in re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) if first in text)
    return str(found)


def _yaml(name: str) -> Any:
    return yaml.safe_load(_block("yaml", f"# {name}\n"))


@pytest.mark.slow
def test_the_commands_show_a_run_that_is_at_work(tmp_path: Path, free_port: int) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"instruction": f"Count to {number}."} for number in range(8)])
    commands = _block("bash").replace("9464", str(free_port))
    slow = json.dumps({"delay_seconds": 6})
    settings = {**ECHO, "DATASET_ID": rows, "OUTPUT_DIR": tmp_path / "results", "ENGINE_ARGS": slow}
    shown = typed(f"{MAKE}\n{commands}", **settings)
    assert "answers rows\n" in shown
    seen = parsed("".join(f"{line}\n" for line in shown.splitlines() if line.startswith("answers_job")))
    states = seen.by("answers_job_rows", "state")
    assert sum(states.values()) == 8
    assert states["pending"] > 0
    assert '"event": "run_finished"' in shown


def test_the_table_has_each_of_the_jobs_metrics_and_its_type() -> None:
    section = PAGE[PAGE.index("## The job's figures") : PAGE.index("## vLLM's figures")]
    documented = {
        name: kind
        for names, kind in re.findall(r"^\| (`answers_job[^|]*) \| (\w+)", section, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    real = {sample.name: family.type.replace("info", "gauge") for family in everything() for sample in family.samples}
    assert documented == real


def test_the_labels_of_the_table_are_the_real_ones() -> None:
    for family in everything():
        (row,) = re.findall(rf"^\| [^|]*`{family.samples[0].name}`.*", PAGE, re.MULTILINE)
        for label in family.samples[0].labels:
            assert f"`{label}`" in row, (family.name, label)


def test_alarms_ask_for_metrics_that_the_page_explains() -> None:
    (group,) = _yaml("alarms.yaml")["groups"]
    asked = {name for rule in group["rules"] for name in metrics_of(rule["expr"]) - {"and"}}
    assert len(asked) == 4
    for name in asked:
        assert f"`{name}`" in PAGE


def test_the_operators_monitor_finds_the_pods_and_their_port() -> None:
    monitor = _yaml("podmonitor.yaml")["spec"]
    (job,) = kustomize.build(ROOT / "k8s" / "overlays" / "gpu")
    template = job["spec"]["template"]
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    (port,) = template["spec"]["containers"][0]["ports"]
    assert endpoint["port"] == port["name"]
    assert f"METRICS_PORT={port['containerPort']}" in PAGE
    (scraped,) = _yaml("prometheus.yml")["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": [f"gpu-machine:{port['containerPort']}"]}]
