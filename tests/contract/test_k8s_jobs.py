"""`make k8s-jobs`: from MODEL_IDS and the settings to one Job for each model."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.manifests import kustomize
from scripts.manifests.checks import names_are_valid, problems
from scripts.manifests.job_manifest import GPU, JobManifest
from scripts.manifests.rendering import render
from tests.contract.overlays import built, manifests
from tests.support import ROOT, load_script

GPU_JOB, SHARDED = (manifests(f"overlays/{name}")[0] for name in ("gpu", "gpu-sharded"))
ONE = {"MODEL_ID": "org/model", "DATASET_ID": "org/data"}
TOKEN = "hf_" + "t" * 34


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """With what kubectl rendered of an overlay before, for another test."""
    script = load_script("k8s-jobs")
    kept = SimpleNamespace(build=built, write=kustomize.write, KubectlError=kustomize.KubectlError)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "kustomize", kept)
        yield script


def rendered(template: Any = GPU_JOB, image: str | None = None, **settings: str) -> JobManifest:
    return JobManifest(render(template, {**ONE, **settings}, image))


def written(file: Path) -> list[JobManifest]:
    return [JobManifest(manifest) for manifest in kustomize.read(file.read_text(encoding="utf-8"))]


def test_each_model_gets_a_job_of_its_own_with_the_same_settings(script: ModuleType, tmp_path: Path) -> None:
    environ = {"MODEL_IDS": "org/a@v1, org/b", "DATASET_ID": "org/data", "TEMPERATURE": "0.5", "IMAGE": "hub.example/job:1"}
    assert script.run(environ, {}, str(tmp_path / "new" / "jobs.yaml")) == 0
    one, two = written(tmp_path / "new" / "jobs.yaml")
    assert (one.env["MODEL_ID"], one.env["MODEL_REVISION"]) == ("org/a", "v1")
    assert two.env["MODEL_ID"] == "org/b"
    assert "MODEL_REVISION" not in two.env
    for job in (one, two):
        assert (job.env["DATASET_ID"], job.env["TEMPERATURE"]) == ("org/data", "0.5")
        assert job.container["image"] == "hub.example/job:1"
        assert problems(job.manifest) == []
        kubernetes_validate.validate(dict(job.manifest), "1.37", strict=True)


def test_a_single_model_is_that_of_model_id_and_model_ids_wins(script: ModuleType) -> None:
    assert script.models({"MODEL_IDS": "", "MODEL_ID": ""}) == []
    assert [str(model) for model in script.models({"MODEL_ID": "org/a"})] == ["org/a"]
    assert [str(model) for model in script.models({"MODEL_ID": "org/a", "MODEL_IDS": "org/b org/c"})] == ["org/b", "org/c"]


def test_the_revision_of_a_model_wins_over_model_revision(script: ModuleType) -> None:
    environ = {"MODEL_IDS": "org/a@v1 org/b", "MODEL_REVISION": "v2", "DATASET_ID": "d"}
    assert [JobManifest(job).env["MODEL_REVISION"] for job in script.jobs(GPU_JOB, environ, {})] == ["v1", "v2"]


def test_without_a_model_the_overlays_example_is_rendered(script: ModuleType, tmp_path: Path) -> None:
    assert (
        script.run({"OVERLAY": "cpu-smoke", "IMAGE": "hub.example/job:1-cpu", "MAX_ROWS": "2"}, {}, str(tmp_path / "jobs")) == 0
    )
    job = written(tmp_path / "jobs")[1]
    assert job.name.startswith("answers-smoke-echo-model-")
    assert (job.env["DATASET_ID"], job.env["MAX_ROWS"]) == ("/data/instructions.jsonl", "2")
    assert job.container["image"] == "hub.example/job:1-cpu"


def test_the_example_of_an_overlay_is_no_default_for_another_model() -> None:
    assert {"MODEL_ID", "DATASET_ID"} <= JobManifest(GPU_JOB).env.keys()
    job = JobManifest(render(GPU_JOB, {"MODEL_ID": "org/model"}))
    assert any("DATASET_ID: is required" in problem for problem in problems(job.manifest))


def test_what_an_overlay_says_of_the_container_is_kept(script: ModuleType) -> None:
    environ = {**ONE, "OUTPUT_DIR": "results", "HF_HOME": "/home/ana/hf", "PATH": "/bin"}
    (job,) = (JobManifest(each) for each in script.jobs(GPU_JOB, environ, {"OUTPUT_DIR": "results"}))
    assert (job.env["OUTPUT_DIR"], job.env["HF_HOME"], job.env["LOG_FORMAT"]) == ("/results", "/cache/huggingface", "json")
    assert "PATH" not in job.env


def test_the_overlay_may_be_a_folder_elsewhere_and_what_it_has_besides_the_job_is_written_too(
    script: ModuleType, tmp_path: Path
) -> None:
    environ = {"MODEL_ID": "m", "DATASET_ID": "/data/instructions.jsonl", "OVERLAY": str(ROOT / "k8s/overlays/cpu-smoke")}
    assert script.run(environ, {}, str(tmp_path / "jobs.yaml")) == 0
    assert [job.manifest["kind"] for job in written(tmp_path / "jobs.yaml")] == ["ConfigMap", "Job"]


def test_access_token_is_never_written(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secrets = {"HF_TOKEN": TOKEN, "VLLM_API_KEY": "k" * 20}
    assert script.run({**ONE, **secrets}, secrets, str(tmp_path / "jobs.yaml")) == 0
    text = (tmp_path / "jobs.yaml").read_text(encoding="utf-8")
    assert not [value for value in secrets.values() if value in text]
    assert "secretKeyRef" in text
    assert "HF_TOKEN is not written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"MODEL_IDS": "a a"}, "MODEL_IDS: a is there twice"),
        ({"MODEL_ID": "m"}, "DATASET_ID: is required"),
        ({**ONE, "TEMPERATURE": "warm", "MAX_TOKENS": "0"}, "TEMPERATURE='warm': .*\n.*MAX_TOKENS='0'"),
        ({**ONE, "DATASET_ID": "data/instructions.jsonl"}, "DATASET_ID=data/instructions.jsonl is a path, and on no volume"),
        ({**ONE, "MODEL_ID": "data"}, "MODEL_ID=data is a path, and on no volume"),
        ({**ONE, "SHARD_COUNT": "4"}, "use the component sharded"),
        ({**ONE, "SHARD_COUNT": "none", "OVERLAY": "gpu-sharded"}, "SHARD_COUNT='none': has to be a number of 1 or more"),
        ({**ONE, "SHARD_COUNT": "0", "OVERLAY": "gpu-sharded"}, "SHARD_COUNT='0': has to be a number of 1 or more"),
        ({**ONE, "OVERLAY": "nowhere"}, "kubectl kustomize nowhere: error: "),
        ({**ONE, "OVERLAY": str(ROOT / "k8s" / "storage")}, "has 0 Jobs"),
        ({**ONE, "IMAGE": "job:latest"}, "image 'job:latest': name a version"),
        ({**ONE, "HF_TOKEN": "secret-of-mine", "SYSTEM_PROMPT": "secret-of-mine"}, "SYSTEM_PROMPT: holds the access token"),
        ({**ONE, "STOP": TOKEN}, "holds what looks like a secret"),
        (
            {"MODEL_IDS": "a b", "DATASET_ID": "d", "HUB_REPO_ID": "o/r"},
            "HUB_REPO_ID: is one repository, and there are 2 models",
        ),
    ],
)
def test_what_could_not_run_is_refused_and_nothing_is_written(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], environ: Mapping[str, str], problem: str
) -> None:
    assert script.run(environ, {}, str(tmp_path / "jobs.yaml")) == 1
    said = capsys.readouterr().err
    assert len(re.findall(problem, said)) == 1, said
    assert TOKEN not in said
    assert not (tmp_path / "jobs.yaml").exists()


def test_a_template_without_a_container_for_the_job_is_refused(script: ModuleType) -> None:
    template = {"kind": "Job", "spec": {"template": {"spec": {"containers": [{"name": "main"}]}}}}
    with pytest.raises(ValueError, match="no container of its Job has the name job"):
        script.template_of([template], Path("mine"))


def test_misspelt_and_foreign_variables_are_told(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dotenv = {"TEMPRATURE": "1", "COLOUR": "blue", "NCCL_DEBUG": "INFO"}
    assert script.run({**ONE, **dotenv}, dotenv, str(tmp_path / "jobs.yaml")) == 0
    said = capsys.readouterr().err
    assert "TEMPRATURE means nothing to the job: TEMPERATURE was meant?" in said
    assert "COLOUR of .env is not written" in said
    assert "NCCL_DEBUG" not in said
    (job,) = written(tmp_path / "jobs.yaml")
    assert job.env["NCCL_DEBUG"] == "INFO"


def test_standard_output_has_the_manifests_alone(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.run(ONE, {}, "-") == 0
    said = capsys.readouterr()
    (manifest,) = kustomize.read(said.out)
    assert said.err == f"{manifest['metadata']['name']}  org/model\n"


def test_gpus_shards_and_grace_follow_their_variables() -> None:
    job = rendered(SHARDED, TENSOR_PARALLEL_SIZE="2", SHARD_COUNT="10", SHUTDOWN_GRACE_SECONDS="60.5")
    assert job.resources("limits")[GPU] == "2"
    assert (job.spec["completions"], job.spec["parallelism"], job.spec["maxFailedIndexes"]) == (10, 10, 1)
    assert job.pod["terminationGracePeriodSeconds"] == 71
    assert problems(job.manifest) == []


def test_the_port_of_metrics_follows_its_variable() -> None:
    job = rendered(GPU_JOB, METRICS_PORT="9999")
    (port,) = job.container["ports"]
    assert (port["containerPort"], job.annotations["prometheus.io/port"]) == (9999, "9999")
    assert problems(job.manifest) == []
    assert any("any port" in problem for problem in problems(rendered(GPU_JOB, METRICS_PORT="0").manifest))


def test_one_shard_tolerates_no_failed_one() -> None:
    job = rendered(SHARDED, SHARD_COUNT="1")
    assert (job.spec["completions"], job.spec["maxFailedIndexes"]) == (1, 0)
    assert problems(job.manifest) == []


@pytest.mark.parametrize(("count", "parallelism"), [("10", 2), ("1", 1)])
def test_parallelism_that_an_overlay_limits_stays_limited(count: str, parallelism: int) -> None:
    template = {**SHARDED, "spec": {**SHARDED["spec"], "parallelism": 2}}
    assert rendered(template, SHARD_COUNT=count).spec["parallelism"] == parallelism


def test_a_longer_grace_of_the_overlay_stays() -> None:
    template = json.loads(json.dumps(GPU_JOB))
    template["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 300
    assert rendered(template).pod["terminationGracePeriodSeconds"] == 300


def test_the_template_is_left_as_it_was() -> None:
    before = json.dumps(GPU_JOB)
    rendered(TENSOR_PARALLEL_SIZE="8")
    assert json.dumps(GPU_JOB) == before


def test_same_settings_are_the_same_job_and_any_other_is_another() -> None:
    same = rendered().name
    assert rendered().name == same
    others = [
        rendered(SEED="1"),
        rendered(LOG_LEVEL="DEBUG"),
        rendered(MODEL_REVISION="v2"),
        rendered(MODEL_ID="other/model"),
        rendered(image="answers-job:0.2.0"),
        rendered(SHARDED),
    ]
    assert len({same, *(job.name for job in others)}) == len(others) + 1


def test_name_shows_the_model_and_its_adapter() -> None:
    assert rendered(MODEL_ID="mlabonne/TwinLlama-3.1-8B").name.startswith("answers-twinllama-3-1-8b-")
    assert rendered(LORA_ID="ana/twin_lora").name.startswith("answers-model-twin-lora-")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=120))
def test_any_model_gets_a_name_that_kubernetes_takes(model: str) -> None:
    for template in (GPU_JOB, {**SHARDED, "spec": {**SHARDED["spec"], "completions": 100_000}}):
        assert list(names_are_valid(rendered(template, MODEL_ID=model))) == []


# Words that Go's YAML takes for numbers and truths where Python's does not, the other way round, and what has to be quoted.
TRICKY = [
    *("1e5", "y", "no", "null", "~", "0x1F", "0o17", "1_000", "12:30:45", "2026-01-01", ".inf", "5"),
    *("a: b", "# a", " a ", "é\n\t\"'\\"),
]


def test_kubectl_reads_the_values_that_were_written(tmp_path: Path) -> None:
    """One that is misread is of another type, or refused as no string. A Job for each, in the order of their names."""
    jobs = sorted((rendered(SYSTEM_PROMPT=value) for value in TRICKY), key=lambda job: job.name)
    (tmp_path / "jobs.yaml").write_text(kustomize.write([job.manifest for job in jobs]), encoding="utf-8")
    (tmp_path / "kustomization.yaml").write_text("resources: [jobs.yaml]\n", encoding="utf-8")
    read = sorted(kustomize.build(tmp_path), key=lambda manifest: manifest["metadata"]["name"])
    assert len(read) == len(TRICKY)
    for found, job in zip(read, jobs, strict=True):
        assert found == job.manifest


def expanded(value: str) -> str:
    """What Kubernetes makes of a value: $$ is a $, and any other $ may begin a reference."""
    assert "$" not in value.replace("$$", "")
    return value.replace("$$", "$")


@given(st.text(st.sampled_from("$(A)")))
def test_a_dollar_is_no_reference(value: str) -> None:
    job = rendered(SYSTEM_PROMPT=value)
    (entry,) = (each for each in job.container["env"] if each["name"] == "SYSTEM_PROMPT")
    assert expanded(entry["value"]) == value == job.env["SYSTEM_PROMPT"]


def test_kubectl_that_is_missing_is_told() -> None:
    with pytest.raises(kustomize.KubectlError, match="kubectl is not installed"):
        kustomize.find_kubectl("/nowhere")
