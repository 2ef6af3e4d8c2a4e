"""Real vLLM in the container: the bytes that `make generate` makes on this machine, also when it is stopped on the way."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scripts.environment import read
from tests.image.podman import STRANGER, Image, folder_for, podman, settings_of_podman
from tests.support import ROOT, finished_rows, parquet_bytes, results_folder, run_job, running

pytestmark = [pytest.mark.slow, pytest.mark.image, pytest.mark.timeout(900)]
ROWS = 12
EMBEDDED = {**read(ROOT / "scripts" / "embedded.env"), "MAX_ROWS": str(ROWS)}  # what `make generate` sets
MODEL, DATASET = ROOT / EMBEDDED["MODEL_ID"], ROOT / EMBEDDED["DATASET_ID"]
INSIDE = {"MODEL_ID": f"/models/{MODEL.name}", "DATASET_ID": f"/data/{DATASET.name}"}


@pytest.fixture(scope="module")
def on_this_machine(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the same run without a container."""
    output = tmp_path_factory.mktemp("here")
    assert run_job(**{**EMBEDDED, "OUTPUT_DIR": output}).code == 0
    return results_folder(output)


def in_container(folder: Path) -> Mapping[str, Any]:
    """What `Image.command` takes for the same run in a container."""
    mounts = {
        MODEL.resolve(): f"{INSIDE['MODEL_ID']}:ro",
        DATASET: f"{INSIDE['DATASET_ID']}:ro",
        folder_for(STRANGER, folder / "cache"): "/cache",
        folder_for(STRANGER, folder / "results"): "/results",
    }
    return {"user": STRANGER, "mounts": mounts, **EMBEDDED, **INSIDE}


def facts(folder: Path) -> Any:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def test_stopped_by_sigterm_and_resumed_it_gives_the_bytes_of_make_generate(
    image: Image, on_this_machine: Path, shared: Path
) -> None:
    """SIGTERM as Kubernetes and `docker stop` send it: to process 1, which is the job."""
    run, results = in_container(shared), shared / "results"
    # With a grace, all that were in flight would be finished.
    first = image.command("--name=stopped", **{**run, "SHUTDOWN_GRACE_SECONDS": 1, "PROGRESS_SECONDS": 0, "LOG_FORMAT": "json"})
    with running(shared / "log", {}, ["env", *(f"{k}={v}" for k, v in settings_of_podman().items()), *first]) as job:
        job.event("engine_ready", 240)
        safe = job.until(lambda: len(finished_rows(results)) or None, 240)
        podman("stop", "--time", "60", "stopped")
        stopped = job.end()
    assert stopped.code == stopped.last["exit_code"] == 75, stopped.stderr
    assert "SIGTERM" in stopped.last["message"]
    kept = finished_rows(results)
    assert safe <= len(kept) < ROWS, "it was to be stopped on the way"

    resumed = image.run(**run)
    assert (resumed.code, resumed.stderr) == (0, "")
    assert resumed.last["generated_rows"] == ROWS - len(kept)
    here, there = on_this_machine, results_folder(results)
    assert there.name == here.name, "the identity is that of the same run without a container"
    assert parquet_bytes(there) == parquet_bytes(here)
    assert facts(here)["image"] is None
    assert facts(there)["image"]["variant"] == "cpu"
    packages = [{**facts(folder)["versions"], "python": "the distribution's"} for folder in (here, there)]
    assert packages[0] == packages[1]
