"""The pod of k8s/overlays/cpu-smoke, as podman runs it: its rights, volumes and settings fit the image."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from scripts.manifests import kustomize
from scripts.manifests.job_manifest import JobManifest
from tests.image.podman import Image, podman
from tests.support import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.image]
NAME = "answers-smoke"


def pod_of(job: JobManifest, image: Image, **variables: str) -> Mapping[str, Any]:
    """The pod that the Job would make. podman knows no Job, and of the image this one's name.

    It would also publish the port, for which there has to be a network, and ask the probes by a curl, which the image has not.
    """
    spec = json.loads(json.dumps(job.pod))
    spec["containers"][0]["image"] = image.name
    for name in ("ports", "livenessProbe", "readinessProbe"):
        del spec["containers"][0][name]
    spec["containers"][0]["env"] += [{"name": name, "value": value} for name, value in variables.items()]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME}, "spec": spec}


@pytest.fixture
def smoke() -> Iterator[tuple[JobManifest, Mapping[str, Any]]]:
    """The overlay's Job and the ConfigMap with its rows."""
    rows, job = kustomize.build(ROOT / "k8s" / "overlays" / "cpu-smoke")
    yield JobManifest(job), rows
    podman("pod", "rm", "--force", "--ignore", NAME)


def played(pod: Mapping[str, Any], rows: Mapping[str, Any], folder: Path) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the log of a pod's container."""
    file = folder / "pod.yaml"
    file.write_text(kustomize.write([rows, pod]), encoding="utf-8")
    podman("kube", "play", "--network=none", str(file))
    container = f"{NAME}-job"
    deadline = time.monotonic() + 120
    while podman("container", "inspect", "--format", "{{.State.Status}}", container).strip() != "exited":
        assert time.monotonic() < deadline, podman("logs", container)
        time.sleep(0.2)
    code = int(podman("container", "inspect", "--format", "{{.State.ExitCode}}", container))
    return code, [json.loads(line) for line in podman("logs", container).splitlines()]


def test_the_smoke_pod_answers_its_three_rows(
    image: Image, smoke: tuple[JobManifest, Mapping[str, Any]], tmp_path: Path
) -> None:
    job, rows = smoke
    code, events = played(pod_of(job, image), rows, tmp_path)
    assert (code, events[-1]["event"], events[-1]["exit_code"], events[-1]["rows"]) == (0, "run_finished", 0, 3)
    (facts,) = json.loads(podman("container", "inspect", f"{NAME}-job"))
    context = job.pod["securityContext"]
    assert facts["Config"]["User"].split(":")[0] == str(context["runAsUser"])
    assert facts["HostConfig"]["ReadonlyRootfs"] is True
    assert facts["EffectiveCaps"] in (None, [])


def test_a_wrong_setting_ends_the_pod_with_the_code_that_the_policy_knows(
    image: Image, smoke: tuple[JobManifest, Mapping[str, Any]], tmp_path: Path
) -> None:
    job, rows = smoke
    code, events = played(pod_of(job, image, TEMPERATURE="hot"), rows, tmp_path)
    assert code == events[-1]["exit_code"] == 78
