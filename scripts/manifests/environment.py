"""The variables that a Job sets, against the settings of the job, and against what else the manifest says."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from job import settings
from job.errors import SettingsError
from job.references import is_local
from job.settings import RunSettings, Settings, near_misses, variables
from scripts.manifests.job_manifest import JobManifest

SHARD_COUNT, SHARD_INDEX, COMPLETION_INDEX = "SHARD_COUNT", "SHARD_INDEX", "JOB_COMPLETION_INDEX"
KNOWN = frozenset(name for _, name in variables())
SECRETS = frozenset(name for audience, name in variables() if settings.is_secret(audience.model_fields[name.lower()]))
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|_KEY\b")
LIBRARIES = ("CUDA_", "HF_", "NCCL_", "VLLM_")  # whose variables are not listed here
TEMPLATES = ("alpaca", "chat")
CLOSING_SECONDS = 10  # of the engine, after the grace


def is_secret(name: str) -> bool:
    """Whether the value of a variable must not be in a manifest."""
    return name in SECRETS or (name not in KNOWN and SECRET_NAME.search(name) is not None)


def variables_are_known(job: JobManifest) -> Iterator[str]:
    for name, times in Counter(job.env_names).items():
        if times > 1:
            yield f"env: {name} is there {times} times"
        if name in (SHARD_INDEX, COMPLETION_INDEX):
            yield f"env: {name} is set: Kubernetes numbers the pods of an Indexed Job by itself"
        elif name not in KNOWN and (meant := near_misses({name: ""}).get(name)):
            yield f"env: {name} means nothing to the job: {meant} was meant?"
        elif name not in KNOWN and not name.startswith(LIBRARIES):
            yield f"env: {name} means nothing to the job: see docs/configuration.md"


def values_are_valid(job: JobManifest) -> Iterator[str]:
    numbered = {COMPLETION_INDEX: "0"} if job.indexed else {}
    try:
        Settings.from_env({**job.env, **numbered})
    except SettingsError as error:
        yield from (f"env: {problem}" for problem in error.problems)
    if job.env.get("LOG_FORMAT") == "console":
        yield "env: LOG_FORMAT=console is for terminals: use json"


def secrets_are_referred_to(job: JobManifest) -> Iterator[str]:
    for name in job.env:
        if is_secret(name):
            yield f"env: {name} is in plain text: refer to a Secret with valueFrom.secretKeyRef"
    if SECRETS - set(job.env_names):
        yield f"env: {', '.join(SECRETS)}: refer to a Secret, which may be optional"


def paths_are_in_the_container(job: JobManifest) -> Iterator[str]:
    for name in ("MODEL_ID", "LORA_ID", "DATASET_ID", "PROMPT_TEMPLATE"):
        value = job.env.get(name)
        if not value or value in TEMPLATES or not (name == "PROMPT_TEMPLATE" or is_local(value)):
            continue
        if not PurePosixPath(value).is_absolute() or job.mounted_on(value) is None:
            yield f"env: {name}={value} is a path, and on no volume: name its place in the container, below a mountPath"


def pod_gets_time_to_stop(job: JobManifest) -> Iterator[str]:
    least = least_grace(job)
    if job.pod.get("terminationGracePeriodSeconds", 0) < least:
        yield f"terminationGracePeriodSeconds has to be {least} or more: SHUTDOWN_GRACE_SECONDS, and time to close the engine"


def job_ends_and_goes(job: JobManifest) -> Iterator[str]:
    for name in ("activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        if not job.spec.get(name):
            yield f"{name} is missing: a Job that hangs, or has ended, would stay for ever"


def shards_are_the_pods(job: JobManifest) -> Iterator[str]:
    count, completions = job.env.get(SHARD_COUNT), job.spec.get("completions", 1)
    if not job.indexed:
        for name in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if name in job.spec:
                yield f"{name} needs completionMode Indexed"
        if count is not None or completions != 1 or job.spec.get("parallelism", 1) != 1:
            yield f"{SHARD_COUNT} and several pods need completionMode Indexed: use the component sharded"
        return
    if count != str(completions):
        yield f"env: {SHARD_COUNT} is {count}, and completions {completions}: they have to be equal"
    if not 1 <= job.spec.get("parallelism", 1) <= completions:
        yield f"parallelism has to be between 1 and completions, {completions}"
    if "backoffLimitPerIndex" not in job.spec or "backoffLimit" in job.spec:
        yield "an Indexed Job needs backoffLimitPerIndex, and no backoffLimit: that counts the failures of all shards together"
    if not 0 <= job.spec.get("maxFailedIndexes", -1) < completions:
        yield f"maxFailedIndexes has to be below completions, {completions}: what fails everywhere ends the Job"


def least_grace(job: JobManifest) -> int:
    """How long Kubernetes has to wait between SIGTERM and SIGKILL, in seconds."""
    default = RunSettings.model_fields["shutdown_grace_seconds"].default
    try:
        return math.ceil(float(job.env.get("SHUTDOWN_GRACE_SECONDS", default))) + CLOSING_SECONDS
    except (ValueError, OverflowError):  # values_are_valid says so
        return CLOSING_SECONDS


CHECKS = (
    variables_are_known,
    values_are_valid,
    secrets_are_referred_to,
    paths_are_in_the_container,
    pod_gets_time_to_stop,
    job_ends_and_goes,
    shards_are_the_pods,
)
