"""The Kubernetes manifests: they render, schemas and our own checks take them, and each check refuses what it is there for."""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

import job
from job import errors
from scripts.manifests import kustomize
from scripts.manifests.checks import ENUMS, JOB_CHECKS, MANIFEST_CHECKS, problems
from scripts.manifests.failure_policy import ACTIONS, expected
from scripts.manifests.job_manifest import JobManifest, scalars
from tests.contract.overlays import K8S, manifests
from tests.contract.wrong_manifests import DELETED, WRONG, change
from tests.support import ROOT, run_job

OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
KUSTOMIZATIONS = [*(f"overlays/{name}" for name in OVERLAYS), "storage"]
VERSIONS = ("1.31", "1.37")


def job_of(overlay: str) -> Any:
    (found,) = (each for each in manifests(f"overlays/{overlay}") if each["kind"] == "Job")
    return found


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_what_is_rendered_passes_the_schemas_and_every_check(kustomization: str) -> None:
    rendered = manifests(kustomization)
    assert rendered
    for manifest in rendered:
        assert problems(manifest) == []
        for version in VERSIONS:
            assert kubernetes_validate.validate(manifest, version, strict=True) == version


def test_every_folder_is_rendered_by_one_of_them() -> None:
    """A component that no overlay uses, or a file that no kustomization names, would be checked by nobody."""
    written = {path.relative_to(K8S).parts[0] for path in K8S.rglob("kustomization.yaml")} - {"rendered"}
    assert written == {"base", "components", "overlays", "storage"}
    used = "\n".join(path.read_text(encoding="utf-8") for path in K8S.glob("overlays/*/kustomization.yaml"))
    for component in (K8S / "components").iterdir():
        assert f"components/{component.name}" in used
    for path in K8S.glob("*/**/*.yaml"):
        if path.name != "kustomization.yaml" and "rendered" not in path.parts:
            assert path.name in (path.parent / "kustomization.yaml").read_text(encoding="utf-8")


def test_image_is_of_this_version() -> None:
    assert {job_of(overlay)["spec"]["template"]["spec"]["containers"][0]["image"] for overlay in OVERLAYS} == {
        f"answers-job:{job.__version__}",
        f"answers-job:{job.__version__}-cpu",
    }


def test_overlays_are_what_their_names_say() -> None:
    for overlay in OVERLAYS:
        spec = JobManifest(job_of(overlay))
        assert spec.indexed == ("sharded" in overlay)
        assert bool(spec.spec.get("suspend")) == ("kueue" in overlay)
        assert ("nvidia.com/gpu" in spec.resources("limits")) == overlay.startswith("gpu")


@pytest.mark.parametrize(
    "changes",
    [
        {"spec.podFailurPolicy": {}},
        {"spec.backoffLimit": "many"},
        {"job.env.0.value": 1},
        {"pod.containers": DELETED},
    ],
    ids=str,
)
@pytest.mark.parametrize("version", VERSIONS)
def test_schemas_refuse_unknown_fields_and_wrong_types(version: str, changes: Mapping[str, object]) -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(change(job_of("gpu"), changes), version, strict=True)


@pytest.mark.parametrize(
    ("check", "overlay", "changes", "problem"),
    [(check, *case) for check, cases in WRONG.items() for case in cases],
    ids=lambda value: str(value)[:60],
)
def test_each_check_refuses_a_wrong_manifest(check: str, overlay: str, changes: Mapping[str, object], problem: str) -> None:
    wrong = change(job_of(overlay), changes)
    found = [
        *(problem for each in MANIFEST_CHECKS if each.__name__ == check for problem in each(wrong)),
        *(problem for each in JOB_CHECKS if each.__name__ == check for problem in each(JobManifest(wrong))),
    ]
    assert [each for each in found if re.match(problem, each)], found
    assert set(found) <= set(problems(wrong))


def test_no_check_is_left_out() -> None:
    assert {*WRONG, "enums_are_spelt_right"} == {each.__name__ for each in (*MANIFEST_CHECKS, *JOB_CHECKS)}


def _places(end: tuple[str, ...]) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Each manifest that has a field of an enumeration, and the path of that field."""
    for kustomization in KUSTOMIZATIONS:
        for manifest in manifests(kustomization):
            for path, _ in scalars(manifest):
                if path[-len(end) :] == end:
                    yield manifest, path


def _misspell(value: Any, path: tuple[str, ...]) -> Any:
    """A copy in which the values at a path are what no enumeration has."""
    if isinstance(value, list):
        return [_misspell(item, path) for item in value]
    if not path:
        return "Sometimes"
    if path[0] not in value:  # another item of the same list
        return value
    return {**value, path[0]: _misspell(value[path[0]], path[1:])}


@pytest.mark.parametrize("end", ENUMS, ids=".".join)
def test_misspelt_values_of_enumerations_are_refused_though_no_schema_sees_them(end: tuple[str, ...]) -> None:
    places = list(_places(end))
    assert places
    manifest, path = places[0]
    wrong = _misspell(manifest, path)
    assert any(problem.startswith(f"{'.'.join(path)}: 'Sometimes' is none of") for problem in problems(wrong))
    if end != ("podReplacementPolicy",):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


ERRORS = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.JobError)]


def test_each_error_of_the_job_has_an_action() -> None:
    assert set(ACTIONS) == set(ERRORS) - {errors.JobError}
    for indexed in (False, True):
        assert set(expected(indexed=indexed)) == {cls.exit_code for cls in ERRORS}


@pytest.mark.parametrize("overlay", ["gpu", "gpu-sharded"])
@pytest.mark.parametrize("code", sorted({cls.exit_code for cls in ERRORS}))
def test_an_exit_code_that_is_missing_or_in_another_rule_is_refused(code: int, overlay: str) -> None:
    good = job_of(overlay)
    lists = [rule["onExitCodes"]["values"] for rule in good["spec"]["podFailurePolicy"]["rules"][1:]]
    (home,) = (number for number, codes in enumerate(lists) if code in codes)
    lists[home].remove(code)
    assert any(f"exit code {code} has the actions []" in problem for problem in problems(good))
    lists[home - 1].append(code)
    assert any(f"exit code {code} has the actions ['" in problem for problem in problems(good))


def test_a_value_of_another_type_than_its_field_is_a_problem_rather_than_a_crash() -> None:
    wrong: list[dict[str, object]] = [{"spec.completions": "4"}, {"job.env": "MODEL_ID"}, {"pod.volumes": {"a": {}}}]
    for changes in wrong:
        assert any("cannot be read as a Job" in problem for problem in problems(change(job_of("gpu-sharded"), changes)))


@pytest.mark.parametrize("image", ["hub.example:5000/a/answers-job:0.1.0", f"answers-job@sha256:{'0' * 64}"])
def test_images_of_a_registry_and_digests_are_taken(image: str) -> None:
    assert problems(change(job_of("gpu"), {"job.image": image})) == []


def test_variables_of_the_libraries_are_taken() -> None:
    assert problems(change(job_of("gpu"), {"env.NCCL_DEBUG": "INFO", "env.HF_HUB_OFFLINE": "1"})) == []


@pytest.mark.slow
def test_check_manifests_says_what_is_wrong_and_with_what(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(kustomize.write([job_of("gpu"), change(job_of("cpu-smoke"), {"env.SEED": "x"})]), encoding="utf-8")
    done = subprocess.run([sys.executable, "scripts/check-manifests", file], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert re.fullmatch(r"Job answers-smoke: env: SEED='x': .*\n", done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("text", "code"), [("", 1), ("---\n", 1), (kustomize.write(manifests("storage")), 0)])
def test_check_manifests_reads_standard_input(text: str, code: int) -> None:
    done = subprocess.run([sys.executable, "scripts/check-manifests"], cwd=ROOT, input=text, capture_output=True, text=True)
    assert done.returncode == code
    assert ("there is no manifest" in done.stderr) == bool(code)


@pytest.mark.slow
def test_the_smoke_jobs_environment_runs_the_job(tmp_path: Path) -> None:
    """With folders of this machine in the place of the volumes; the image itself is another test's."""
    folders = {"/results": tmp_path / "results", "/cache": tmp_path / "cache", "/data": K8S / "overlays" / "cpu-smoke"}
    variables = dict(JobManifest(job_of("cpu-smoke")).env)
    for name, value in variables.items():
        for mount, folder in folders.items():
            variables[name] = variables[name].replace(mount, str(folder)) if value.startswith(mount) else variables[name]
    outcome = run_job(**variables)
    assert outcome.code == 0, outcome.stderr
    assert outcome.last["rows"] == 3
