"""What no schema sees in a manifest, and a cluster refuses or, worse, takes."""

import re
from collections.abc import Callable, Iterator, Mapping

from scripts.manifests import environment, failure_policy, hardening, metrics
from scripts.manifests.job_manifest import JobManifest, Manifest, scalars

# Schemas know these fields as strings only. By the end of the path that leads to them.
ENUMS: Mapping[tuple[str, ...], frozenset[str]] = {
    ("spec", "completionMode"): frozenset({"Indexed", "NonIndexed"}),
    ("podReplacementPolicy",): frozenset({"Failed", "TerminatingOrFailed"}),
    ("rules", "action"): frozenset({"Ignore", "FailJob", "FailIndex", "Count"}),
    ("onExitCodes", "operator"): frozenset({"In", "NotIn"}),
    ("onPodConditions", "status"): frozenset({"True", "False", "Unknown"}),
    ("restartPolicy",): frozenset({"Never", "OnFailure"}),
    ("imagePullPolicy",): frozenset({"Always", "IfNotPresent", "Never"}),
    ("seccompProfile", "type"): frozenset({"RuntimeDefault", "Localhost", "Unconfined"}),
    ("fsGroupChangePolicy",): frozenset({"Always", "OnRootMismatch"}),
    ("tolerations", "operator"): frozenset({"Exists", "Equal"}),
    ("tolerations", "effect"): frozenset({"NoSchedule", "PreferNoSchedule", "NoExecute"}),
    ("emptyDir", "medium"): frozenset({"", "Memory"}),
    ("spec", "accessModes"): frozenset({"ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"}),
}
LONGEST_NAME = 63  # a DNS label
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-\w.]*[A-Za-z0-9])?)?", re.ASCII)
SECRET_VALUES = re.compile(r"\bhf_[A-Za-z0-9]{16,}|://[^/\s:@]*:[^/\s@]+@")  # a token of the Hub; a password in an address


def enums_are_spelt_right(manifest: Manifest) -> Iterator[str]:
    for path, value in scalars(manifest):
        for end, allowed in ENUMS.items():
            if path[-len(end) :] == end and value not in allowed:
                yield f"{'.'.join(path)}: {value!r} is none of {', '.join(sorted(allowed))}"


def no_secret_is_in_plain_text(manifest: Manifest) -> Iterator[str]:
    """The value is not repeated: what is written here ends up in a log."""
    if manifest.get("kind") == "Secret":
        yield "kind Secret: make it with kubectl, and keep it out of files"
    for path, value in scalars(manifest):
        if SECRET_VALUES.search(str(value)):
            yield f"{'.'.join(path)} holds what looks like a secret: refer to a Secret"


def labels_are_valid(manifest: Manifest) -> Iterator[str]:
    for path, value in scalars(manifest):
        if "labels" in path[-2:-1] and (len(str(value)) > LONGEST_NAME or not LABEL_VALUE.fullmatch(str(value))):
            yield f"label {path[-1]}: {value!r} is not a label's value: {LONGEST_NAME} letters, digits, '-', '_', '.' at most"


def names_are_valid(job: JobManifest) -> Iterator[str]:
    pod_name = f"{job.name}-{job.spec.get('completions', 1) - 1}" if job.indexed else job.name
    names = {"the Job's name": pod_name}
    names |= {f"container {index}": str(each.get("name")) for index, each in enumerate(job.containers)}
    names |= {f"volume {index}": name for index, name in enumerate(job.volumes)}
    for what, name in names.items():
        if len(name) > LONGEST_NAME or not LABEL.fullmatch(name):
            yield f"{what}, {name!r}, is not a name: {LONGEST_NAME} small letters, digits, '-' at most, with a shard's number"
    if not job.container:
        yield "no container has the name job"


MANIFEST_CHECKS: tuple[Callable[[Manifest], Iterator[str]], ...] = (
    enums_are_spelt_right,
    no_secret_is_in_plain_text,
    labels_are_valid,
)
JOB_CHECKS: tuple[Callable[[JobManifest], Iterator[str]], ...] = (
    names_are_valid,
    *failure_policy.CHECKS,
    *hardening.CHECKS,
    *environment.CHECKS,
    *metrics.CHECKS,
)


def problems(manifest: Manifest) -> list[str]:
    """What is wrong with a manifest, empty where nothing is. Its fields and types are the schemas' business."""
    found = [problem for check in MANIFEST_CHECKS for problem in check(manifest)]
    if manifest.get("kind") == "Job":
        try:
            found += [problem for check in JOB_CHECKS for problem in check(JobManifest(manifest))]
        except (AttributeError, KeyError, TypeError) as error:  # a value of another type than the fields have
            found.append(f"cannot be read as a Job: {error!r}; `kubernetes-validate --strict` says where")
    return found
