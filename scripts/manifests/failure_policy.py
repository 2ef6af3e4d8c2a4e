"""What Kubernetes does about each exit code: the Job's podFailurePolicy against job/errors.py."""

import inspect
from collections.abc import Iterator, Mapping

from job import errors
from scripts.manifests.job_manifest import CONTAINER, JobManifest

BUG = 1  # Python's own exit code, of what is no JobError
# FailIndex is for what may concern one shard alone; in a Job without shards it becomes FailJob.
ACTIONS: Mapping[type[errors.JobError], str] = {
    errors.SettingsError: "FailJob",
    errors.AccessError: "FailJob",
    errors.DatasetError: "FailIndex",
    errors.FailedRowsError: "FailIndex",
    errors.OutputError: "FailIndex",
    errors.HubUnavailableError: "Count",
    errors.EngineError: "Count",
    errors.StoppedError: "Count",
    errors.RunLockedError: "Count",
}
DISRUPTION = ([{"type": "DisruptionTarget"}], [{"type": "DisruptionTarget", "status": "True"}])


def expected(*, indexed: bool) -> dict[int, str]:
    """The action for each exit code of the job but 0.

    Raises: KeyError where job/errors.py has an error that nobody decided about.
    """
    classes = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.JobError)]
    actions = {cls.exit_code: ACTIONS[cls] for cls in classes if cls is not errors.JobError}
    if not indexed:
        actions = {code: "FailJob" if action == "FailIndex" else action for code, action in actions.items()}
    return {BUG: "Count", **actions}


def disruption_comes_first(job: JobManifest) -> Iterator[str]:
    first = job.rules[0] if job.rules else {}
    if first.get("action") != "Ignore" or first.get("onPodConditions") not in DISRUPTION or "onExitCodes" in first:
        yield "podFailurePolicy: the first rule has to ignore DisruptionTarget: an evicted pod ends with a code of its own, 75"


def exit_codes_have_their_actions(job: JobManifest) -> Iterator[str]:
    given: dict[int, list[str]] = {}
    for rule in job.rules:
        for code in (rule.get("onExitCodes") or {}).get("values") or []:
            given.setdefault(code, []).append(rule.get("action", ""))
    wanted = expected(indexed=job.indexed)
    for code, action in wanted.items():
        if given.get(code) != [action]:
            yield f"podFailurePolicy: exit code {code} has the actions {given.get(code, [])}, and should have {action} alone"
    for code in given.keys() - wanted.keys():
        yield f"podFailurePolicy: exit code {code} is none of the job's: see job/errors.py"


def rules_are_well_formed(job: JobManifest) -> Iterator[str]:
    """What the API server refuses, and no schema says."""
    for number, rule in enumerate(job.rules, 1):
        where, codes = f"podFailurePolicy: rule {number}", rule.get("onExitCodes")
        if (codes is None) == ("onPodConditions" not in rule):
            yield f"{where} needs either onExitCodes or onPodConditions"
        if codes is None:
            continue
        if codes.get("operator") != "In":
            yield f"{where}: operator {codes.get('operator')} would take in codes that nobody decided about: use In"
        if codes.get("containerName") != CONTAINER:
            yield f"{where}: containerName has to be {CONTAINER}, whose exit codes these are"
        if codes.get("values") != sorted(set(codes.get("values") or [])):
            yield f"{where}: values have to be sorted, each once"
        if rule.get("action") == "FailIndex" and "backoffLimitPerIndex" not in job.spec:
            yield f"{where}: FailIndex needs backoffLimitPerIndex"


def pods_are_replaced_when_they_have_ended(job: JobManifest) -> Iterator[str]:
    if job.pod.get("restartPolicy") != "Never":
        yield f"restartPolicy is {job.pod.get('restartPolicy')}: with a podFailurePolicy it has to be Never"
    if job.spec.get("podReplacementPolicy") != "Failed":
        yield "podReplacementPolicy has to be Failed: a pod that is still ending holds the run"


CHECKS = (
    disruption_comes_first,
    exit_codes_have_their_actions,
    rules_are_well_formed,
    pods_are_replaced_when_they_have_ended,
)
