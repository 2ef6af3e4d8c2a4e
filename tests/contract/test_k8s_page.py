"""docs/kubernetes.md: its commands are run, its files rendered, and its numbers are those of the manifests."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.manifests import kustomize
from scripts.manifests.checks import problems
from scripts.manifests.failure_policy import expected
from scripts.manifests.job_manifest import JobManifest
from tests.contract.overlays import manifests
from tests.contract.repository import copy_of_the_repository
from tests.support import ROOT

PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
NO_SERVER = "http://127.0.0.1:1"
# kubectl itself, but for a server that nobody has here: a command that got as far as calling it was understood.
KUBECTL = """\
#!/usr/bin/env bash
set -uo pipefail
"{kubectl}" --kubeconfig=/dev/null --server={server} "$@" 2>"$0.err" && exit
grep -q "connect: connection refused" "$0.err" && exit
cat "$0.err" >&2
exit 1
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy, with the files that the page shows by their first lines."""
    folder = copy_of_the_repository(tmp_path / "repository")
    for _, text in BLOCKS:
        if named := re.match(r"(?:#|\{#) (k8s/\S+)", text):
            file = folder / named[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def kubectl(tmp_path: Path) -> Path:
    file = tmp_path / "bin" / "kubectl"
    file.parent.mkdir()
    pinned = kustomize.find_kubectl(os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    file.write_text(KUBECTL.format(kubectl=pinned, server=NO_SERVER), encoding="utf-8")
    file.chmod(0o755)
    return file


@pytest.mark.slow
def test_commands_of_the_page_run_as_far_as_the_cluster(repository: Path, kubectl: Path) -> None:
    commands = "\n".join(text for language, text in BLOCKS if language == "bash")
    assert commands.count("make k8s-jobs") >= 5
    # The virtual environment is there, whatever the dates of its marks: -o has make leave it alone.
    make = 'make() { command make -o .venv/.cpu -o .venv/.dev "$@"; }'
    environ = {"PATH": f"{kubectl.parent}:{os.environ['PATH']}", "HF_TOKEN": "hf_of_nobody"}
    script = ["bash", "-c", f"set -euxo pipefail\n{make}\n{commands}"]
    done = subprocess.run(script, cwd=repository, env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["get jobs --colour", "fetch jobs", "wait --for", "apply -k k8s/nowhere"])
def test_a_command_that_kubectl_does_not_know_is_noticed(kubectl: Path, wrong: str) -> None:
    """What the test above would overlook, were the stand-in too lenient."""
    assert subprocess.run([kubectl, *wrong.split()], capture_output=True).returncode == 1
    assert subprocess.run([kubectl, "get", "jobs"], capture_output=True).returncode == 0


def test_overlays_that_the_page_shows_render_and_change_what_they_say(repository: Path) -> None:
    prompts, job = kustomize.build(repository / "k8s" / "overlays" / "mine")
    assert prompts["data"]["question.jinja"].startswith("{#")
    assert problems(job) == []
    mine = JobManifest(job)
    assert mine.spec["activeDeadlineSeconds"] == 259200
    assert mine.resources("limits")["memory"] == mine.resources("requests")["memory"] == "96Gi"
    assert mine.container["image"] == "registry.example/answers-job:0.1.0"
    for claim in kustomize.build(repository / "k8s" / "my-storage"):
        assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
        assert claim["spec"]["storageClassName"] == "fast"


def test_table_of_exit_codes_is_that_of_the_policy() -> None:
    rows = re.findall(r"^\| (\d+) \|[^|]*\| (\w+) \| (\w+) \|$", PAGE, re.MULTILINE)
    assert {int(code): action for code, action, _ in rows} == expected(indexed=False)
    assert {int(code): action for code, _, action in rows} == expected(indexed=True)


def test_tree_of_folders_is_the_real_one() -> None:
    shown = set(re.findall(r"^  (\S+)/ ", PAGE, re.MULTILINE))
    real = {path.parent.relative_to(ROOT / "k8s").as_posix() for path in (ROOT / "k8s").rglob("kustomization.yaml")}
    assert shown == {folder for folder in real if not folder.startswith("rendered")}


def test_sizes_and_limits_are_those_of_the_manifests() -> None:
    gpu = JobManifest(manifests("overlays/gpu")[0])
    sharded = JobManifest(manifests("overlays/gpu-sharded")[0])
    for claim in manifests("storage"):
        size = claim["spec"]["resources"]["requests"]["storage"].replace("Gi", " GiB")
        source = {"claimName": claim["metadata"]["name"]}
        (volume,) = (name for name, each in gpu.volumes.items() if each.get("persistentVolumeClaim") == source)
        (path,) = (path for path, name in gpu.mounts.items() if name == volume)
        assert f"| `{claim['metadata']['name']}` | `{path}` | {size} |" in PAGE
    folders = {
        name: volume["emptyDir"]["sizeLimit"].replace("Gi", " GiB")
        for name, volume in gpu.volumes.items()
        if "emptyDir" in volume
    }
    assert f"`/cache` ({folders['cache']} at most" in PAGE
    assert f"`/tmp` ({folders['tmp']})" in PAGE
    assert f"vLLM's processes ({folders['shm']}," in PAGE
    assert f"(`backoffLimit: {gpu.spec['backoffLimit']}`)" in PAGE
    assert gpu.spec["backoffLimit"] == sharded.spec["backoffLimitPerIndex"] == 3  # "the fourth failure", "four attempts"
    assert f"(`maxFailedIndexes: {sharded.spec['maxFailedIndexes']}`)" in PAGE
    assert f"SIGKILL {gpu.pod['terminationGracePeriodSeconds']} seconds later" in PAGE
    assert gpu.spec["activeDeadlineSeconds"] == 24 * 60 * 60
    assert gpu.spec["ttlSecondsAfterFinished"] == 7 * 24 * 60 * 60
    assert f"asks for {gpu.resources('limits')['memory'].replace('Gi', ' GiB')} of memory" in PAGE
    assert f"user {gpu.pod['securityContext']['runAsUser']}" in PAGE
