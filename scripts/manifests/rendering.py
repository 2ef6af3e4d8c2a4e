"""From the Job of an overlay to the Job of a model: its settings, and what in the manifest follows from them."""

import copy
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from job.settings import audiences
from scripts.manifests.environment import SHARD_COUNT, least_grace
from scripts.manifests.job_manifest import CONTAINER, GPU, JobManifest, Manifest
from scripts.manifests.metrics import METRICS_PORT, PORT_ANNOTATION, PORT_NAME

# An overlay may have an example of a run, which is for its own model alone.
EXAMPLE = frozenset(name.upper() for part in ("model", "data", "prompt", "sampling") for name in audiences()[part].model_fields)
LONGEST_JOB_NAME = 57  # with "-" and the number of one of 100,000 shards: a DNS label, 63
DIGEST_LENGTH = 10
MODEL_ANNOTATION = "answers-job/model"


def render(template: Manifest, settings: Mapping[str, str], image: str | None = None) -> Manifest:
    """A Job with these settings, which win over the template's own. With a MODEL_ID, the template's example does not hold.

    settings: without secrets, and without what is the container's own, such as folders.
    """
    manifest: dict[str, Any] = copy.deepcopy(dict(template))
    for container in manifest["spec"]["template"]["spec"]["containers"]:
        if container["name"] == CONTAINER:
            container["env"] = _env(container.get("env", []), settings)
            container["image"] = image or container["image"]
    _follow(manifest)
    job = JobManifest(manifest)
    model = "@".join(job.env[name] for name in ("MODEL_ID", "MODEL_REVISION") if name in job.env)
    manifest["metadata"]["name"] = _name(job)
    for part in (manifest, manifest["spec"]["template"]):
        part.setdefault("metadata", {}).setdefault("annotations", {})[MODEL_ANNOTATION] = model
    return manifest


def _env(entries: list[dict[str, Any]], settings: Mapping[str, str]) -> list[dict[str, Any]]:
    """The template's variables with other values, then the others."""
    replaced = settings.keys() | (EXAMPLE if "MODEL_ID" in settings else set())
    kept = [entry for entry in entries if entry["name"] not in replaced]
    # Kubernetes takes $(NAME) for a reference, and $$ for a $.
    return kept + [{"name": name, "value": value.replace("$", "$$")} for name, value in settings.items()]


def _follow(manifest: dict[str, Any]) -> None:
    """Set what is a second statement of a variable: the number of GPUs, of pods, the time to stop, and the port of metrics."""
    job, spec = JobManifest(manifest), manifest["spec"]
    for kind in ("limits", "requests"):
        if GPU in job.resources(kind):
            job.container["resources"][kind][GPU] = job.env.get("TENSOR_PARALLEL_SIZE", "1")
    pod = spec["template"]["spec"]
    pod["terminationGracePeriodSeconds"] = max(pod.get("terminationGracePeriodSeconds", 0), least_grace(job))
    _follow_port(spec["template"], job)
    if job.indexed and SHARD_COUNT in job.env:
        count = int(job.env[SHARD_COUNT])
        parallelism, completions = spec.get("parallelism", 1), spec.get("completions", 1)
        spec["parallelism"] = count if parallelism >= completions else min(parallelism, count)
        spec["completions"] = count
        spec["maxFailedIndexes"] = min(spec.get("maxFailedIndexes", 0), count - 1)


def _follow_port(template: dict[str, Any], job: JobManifest) -> None:
    port = job.env.get(METRICS_PORT, "")
    for each in job.container.get("ports", []):
        if each.get("name") == PORT_NAME and port.isdecimal():
            each["containerPort"] = int(port)
    annotations = template.get("metadata", {}).get("annotations", {})
    if PORT_ANNOTATION in annotations:
        annotations[PORT_ANNOTATION] = port


def _name(job: JobManifest) -> str:
    """The template's name, the model, and a digest of the image and of all that the environment says.

    A Job cannot be changed, so other settings have to be another Job. The run's own identity needs the commits of model and
    dataset, which only the Hub knows.
    """
    facts = json.dumps([job.container["image"], job.container["env"]], sort_keys=True)
    digest = hashlib.sha256(facts.encode()).hexdigest()[:DIGEST_LENGTH]
    models = [job.env[name].rstrip("/").rsplit("/", 1)[-1] for name in ("MODEL_ID", "LORA_ID") if name in job.env]
    readable = re.sub(r"[^a-z0-9]+", "-", "-".join([job.name, *models]).lower())
    return f"{readable[: LONGEST_JOB_NAME - DIGEST_LENGTH - 1].strip('-')}-{digest}"
