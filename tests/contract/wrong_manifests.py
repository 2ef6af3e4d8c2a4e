"""Wrong manifests, each made from a right one, by the check that refuses it."""

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.manifests import hardening

DELETED = "(deleted)"  # a text, so that names of tests are the same in every process
LONG = "x" * 64
PLACES = {
    "pod": "spec.template.spec",
    "job": "spec.template.spec.containers.0",
    "rules": "spec.podFailurePolicy.rules",
}
Changes = Mapping[str, object]


def change(manifest: Any, changes: Changes) -> Any:
    """Set fields of a Job, by their paths; `env.NAME` is a variable, and + at the end of a path adds to a list."""
    for path, value in changes.items():
        first, *rest = path.split(".")
        if first == "env":
            _set_variable(manifest, rest[0], value)
        else:
            _set(manifest, ".".join([PLACES.get(first, first), *rest]).split("."), value)
    return manifest


def _set(part: Any, path: Sequence[str], value: object) -> None:
    key: Any = int(path[0]) if path[0].isdecimal() else path[0].replace("GPU", "nvidia.com/gpu")
    if len(path) > 1:
        _set(part[key] if isinstance(part, list) else part.setdefault(key, {}), path[1:], value)
    elif key == "+":
        part.append(value)
    elif value is DELETED:
        del part[key]
    else:
        part[key] = value


def _set_variable(manifest: Any, name: str, value: object) -> None:
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [each for each in container["env"] if each["name"] != name]
    if value is not DELETED:
        container["env"].append({"name": name, "value": value})


# The overlay whose Job is changed, the changes, and how the problem begins, as a regular expression.
WRONG: Mapping[str, Sequence[tuple[str, Changes, str]]] = {
    "no_secret_is_in_plain_text": [
        ("gpu", {"env.STOP": "hf_" + "a" * 34}, "spec.template.spec.containers.env.value holds"),
        ("gpu", {"env.HF_ENDPOINT": "https://ana:pw@hub.example"}, "spec.template.spec.containers"),
        ("gpu", {"metadata.annotations.note": "hf_" + "a" * 34}, "metadata.annotations.note holds"),
        ("gpu", {"kind": "Secret"}, "kind Secret"),
    ],
    "labels_are_valid": [
        ("gpu", {"metadata.labels.model": "org/model"}, "label model: 'org/model'"),
        ("gpu", {"spec.template.metadata.labels.model": LONG}, "label model: 'xxx"),
    ],
    "names_are_valid": [
        ("gpu", {"metadata.name": "Llama_3.1"}, "the Job's name, 'Llama_3.1'"),
        ("gpu", {"metadata.name": LONG}, "the Job's name, 'xxx"),
        ("gpu-sharded", {"metadata.name": LONG[:62]}, "the Job's name, 'xxx.*-3'"),
        ("gpu", {"pod.volumes.0.name": "my_volume"}, "volume 0, 'my_volume'"),
        ("gpu", {"job.name": "main"}, "no container has the name job"),
    ],
    "disruption_comes_first": [
        ("gpu", {"rules.0": DELETED}, "podFailurePolicy: the first rule"),
        ("gpu", {"rules.0.action": "Count"}, "podFailurePolicy: the first rule"),
        ("gpu", {"rules.0.onPodConditions.0.type": "Disruption"}, "podFailurePolicy: the first rule"),
        ("gpu", {"rules.0.onPodConditions.0.status": "False"}, "podFailurePolicy: the first rule"),
        ("gpu", {"spec.podFailurePolicy": DELETED}, "podFailurePolicy: the first rule"),
    ],
    "exit_codes_have_their_actions": [
        ("gpu", {"rules.1.onExitCodes.values.+": 99}, "podFailurePolicy: exit code 99 is none"),
        ("gpu", {"rules.1.onExitCodes.values.+": 75}, "podFailurePolicy: exit code 75 has"),
    ],
    "rules_are_well_formed": [
        ("gpu", {"rules.1.onExitCodes.operator": "NotIn"}, "podFailurePolicy: rule 2: operator NotIn"),
        ("gpu", {"rules.1.onExitCodes.containerName": DELETED}, "podFailurePolicy: rule 2: containerName"),
        ("gpu", {"rules.1.onExitCodes.values": [78, 77, 73, 65]}, "podFailurePolicy: rule 2: values"),
        ("gpu", {"rules.1.onPodConditions": []}, "podFailurePolicy: rule 2 needs either"),
        ("gpu", {"rules.1.action": "FailIndex"}, "podFailurePolicy: rule 2: FailIndex needs"),
    ],
    "pods_are_replaced_when_they_have_ended": [
        ("gpu", {"pod.restartPolicy": "OnFailure"}, "restartPolicy is OnFailure"),
        ("gpu", {"spec.podReplacementPolicy": "TerminatingOrFailed"}, "podReplacementPolicy"),
        ("gpu", {"spec.podReplacementPolicy": DELETED}, "podReplacementPolicy"),
    ],
    "pod_is_hardened": [
        *(("gpu", {f"pod.{name}": DELETED}, f"pod: {name}") for name in hardening.POD),
        *(("gpu", {f"pod.{name}": True}, f"pod: {name}") for name in (*hardening.POD, *hardening.FORBIDDEN)),
        ("gpu", {"pod.securityContext.runAsNonRoot": False}, "pod: securityContext.runAsNonRoot"),
        ("gpu", {"pod.securityContext.runAsUser": 0}, "pod: securityContext.runAsUser"),
        ("gpu", {"pod.securityContext.runAsGroup": 0}, "pod: securityContext.runAsGroup"),
        ("gpu", {"pod.securityContext.fsGroup": DELETED}, "pod: securityContext.fsGroup"),
        ("gpu", {"pod.securityContext.seccompProfile.type": "Unconfined"}, "pod: securityContext.seccomp"),
        ("gpu", {"pod.securityContext": DELETED}, "pod: securityContext.runAsNonRoot"),
    ],
    "containers_are_hardened": [
        *(("gpu", {f"job.securityContext.{name}": DELETED}, f"container job: .*{name}") for name in hardening.CONTEXT),
        ("gpu", {"job.securityContext.capabilities.add": ["SYS_ADMIN"]}, "container job"),
        ("gpu", {"job.securityContext.privileged": True}, "container job: .*privileged"),
        ("gpu", {"job.securityContext.runAsUser": 0}, "container job: .*runAsUser"),
        ("gpu", {"pod.containers.+": {"name": "sidecar"}}, "container sidecar"),
        ("gpu", {"pod.initContainers": [{"name": "first"}]}, "container first"),
    ],
    "images_are_pinned": [
        *(
            ("gpu", {"job.image": image}, f"image '{image}'")
            for image in ("answers-job", "answers-job:latest", "hub.example:5000/answers-job", "")
        ),
    ],
    "volumes_are_there": [
        ("gpu", {"pod.volumes.0": DELETED}, "volume shm, mounted on /dev/shm, does not exist"),
        ("gpu", {"job.volumeMounts.0": DELETED}, "volume cache is not mounted"),
    ],
    "volumes_are_bounded": [
        ("gpu", {"pod.volumes.0.emptyDir.sizeLimit": DELETED}, "volume shm: emptyDir"),
        ("gpu", {"pod.volumes.0.emptyDir": None}, "volume shm: emptyDir"),
        ("gpu", {"pod.volumes.+": {"name": "x", "hostPath": {"path": "/"}}}, "volume x: hostPath"),
    ],
    "what_is_written_has_a_volume": [
        ("gpu", {"env.OUTPUT_DIR": DELETED}, "OUTPUT_DIR is not set"),
        ("gpu", {"env.OUTPUT_DIR": "/resultsets"}, "OUTPUT_DIR: /resultsets is on no volume"),
        ("gpu", {"env.HF_HOME": "/home/job"}, "HF_HOME: /home/job is on no volume"),
        ("gpu", {"job.volumeMounts.3": DELETED}, "TMPDIR: /tmp is on no volume"),
        ("gpu", {"pod.volumes.0.emptyDir.medium": DELETED}, "/dev/shm has to be"),
        ("gpu", {"job.volumeMounts.4": DELETED}, "/dev/shm has to be"),
    ],
    "results_outlive_the_pod": [
        ("cpu-smoke", {"env.ENGINE": "vllm"}, "OUTPUT_DIR is on an emptyDir"),
    ],
    "resources_are_said": [
        ("gpu", {"job.resources.requests.cpu": DELETED}, "resources.requests.cpu"),
        ("gpu", {"job.resources.limits": DELETED}, "resources.limits.memory"),
    ],
    "gpus_are_as_many_as_the_engine_wants": [
        ("gpu", {"env.TENSOR_PARALLEL_SIZE": "2"}, "resources.limits: nvidia.com/gpu is 1"),
        ("cpu-smoke", {"env.TENSOR_PARALLEL_SIZE": "2"}, "resources.limits: .* is 0"),
        ("gpu", {"job.resources.limits.GPU": "4"}, "resources.limits"),
        ("gpu", {"job.resources.requests.GPU": "2"}, "resources.requests"),
    ],
    "variables_are_known": [
        ("gpu", {"env.TEMPRATURE": "1"}, "env: TEMPRATURE means .*: TEMPERATURE was meant"),
        ("gpu", {"env.HF_TOKN": "1"}, "env: HF_TOKN means .*: HF_TOKEN was meant"),
        ("gpu", {"env.COLOUR": "blue"}, "env: COLOUR means nothing"),
        ("gpu", {"env.MODEL_IDS": "a b"}, "env: MODEL_IDS means nothing"),
        ("gpu-sharded", {"env.JOB_COMPLETION_INDEX": "0"}, "env: JOB_COMPLETION_INDEX is set"),
        ("gpu-sharded", {"env.SHARD_INDEX": "0"}, "env: SHARD_INDEX is set"),
        ("gpu", {"job.env.+": {"name": "MODEL_ID", "value": "a"}}, "env: MODEL_ID is there 2 times"),
    ],
    "values_are_valid": [
        ("gpu", {"env.TEMPERATURE": "warm"}, "env: TEMPERATURE='warm'"),
        ("gpu", {"env.MODEL_ID": DELETED}, "env: MODEL_ID: is required"),
        ("gpu", {"env.PUSH_TO_HUB": "true"}, "env: PUSH_TO_HUB='true': needs to know where to"),
        ("gpu", {"env.LOG_FORMAT": "console"}, "env: LOG_FORMAT=console"),
    ],
    "secrets_are_referred_to": [
        ("gpu", {"env.HF_TOKEN": "secret"}, "env: HF_TOKEN is in plain text"),
        ("gpu", {"env.VLLM_API_KEY": "secret"}, "env: VLLM_API_KEY is in plain text"),
        ("gpu", {"env.HF_TOKEN": DELETED}, "env: HF_TOKEN: refer to a Secret"),
    ],
    "paths_are_in_the_container": [
        ("gpu", {"env.DATASET_ID": "data/instructions.jsonl"}, "env: DATASET_ID=data/instr"),
        ("gpu", {"env.MODEL_ID": "/models/mine"}, "env: MODEL_ID=/models/mine is a path"),
        ("gpu", {"env.LORA_ID": "~/adapter"}, "env: LORA_ID=~/adapter is a path"),
        ("gpu", {"env.PROMPT_TEMPLATE": "question.jinja"}, "env: PROMPT_TEMPLATE=question.jinja is a path"),
    ],
    "pod_gets_time_to_stop": [
        ("gpu", {"env.SHUTDOWN_GRACE_SECONDS": "21"}, "terminationGracePeriodSeconds has to be 31"),
        ("gpu", {"pod.terminationGracePeriodSeconds": 29}, "terminationGracePeriodSeconds has to be 30"),
        (
            "gpu",
            {"pod.terminationGracePeriodSeconds": DELETED, "env.SHUTDOWN_GRACE_SECONDS": DELETED},
            "terminationGracePeriodSeconds has to be 30",
        ),
    ],
    "job_ends_and_goes": [
        ("gpu", {"spec.activeDeadlineSeconds": DELETED}, "activeDeadlineSeconds is missing"),
        ("gpu", {"spec.ttlSecondsAfterFinished": DELETED}, "ttlSecondsAfterFinished is missing"),
    ],
    "shards_are_the_pods": [
        ("gpu", {"spec.backoffLimitPerIndex": 1}, "backoffLimitPerIndex needs completionMode Indexed"),
        ("gpu", {"spec.maxFailedIndexes": 1}, "maxFailedIndexes needs completionMode Indexed"),
        ("gpu-sharded", {"spec.completionMode": "NonIndexed"}, "backoffLimitPerIndex needs completionMode"),
        ("gpu", {"env.SHARD_COUNT": "4"}, "SHARD_COUNT and several pods need completionMode Indexed"),
        ("gpu", {"spec.completions": 2}, "SHARD_COUNT and several pods need completionMode Indexed"),
        ("gpu", {"spec.parallelism": 2}, "SHARD_COUNT and several pods need completionMode Indexed"),
        ("gpu-sharded", {"spec.completions": 5}, "env: SHARD_COUNT is 4, and completions 5"),
        ("gpu-sharded", {"env.SHARD_COUNT": "5"}, "env: SHARD_COUNT is 5, and completions 4"),
        ("gpu-sharded", {"env.SHARD_COUNT": DELETED}, "env: SHARD_COUNT is None, and completions 4"),
        ("gpu-sharded", {"spec.parallelism": 0}, "parallelism has to be between"),
        ("gpu-sharded", {"spec.parallelism": 5}, "parallelism has to be between"),
        ("gpu-sharded", {"spec.backoffLimit": 3}, "an Indexed Job needs backoffLimitPerIndex"),
        ("gpu-sharded", {"spec.backoffLimitPerIndex": DELETED}, "an Indexed Job needs backoffLimitPerIndex"),
        ("gpu-sharded", {"spec.maxFailedIndexes": DELETED}, "maxFailedIndexes has to be below"),
        ("gpu-sharded", {"spec.maxFailedIndexes": 4}, "maxFailedIndexes has to be below"),
    ],
    "port_is_the_same_everywhere": [
        ("gpu", {"env.METRICS_PORT": "9465"}, "env: METRICS_PORT is 9465, and the containerPort metrics 9464"),
        ("gpu", {"env.METRICS_PORT": DELETED}, "env: METRICS_PORT is None, and the containerPort metrics 9464"),
        ("gpu", {"job.ports.0.containerPort": 80}, "env: METRICS_PORT is 9464, and the containerPort metrics 80"),
        ("gpu", {"spec.template.metadata.annotations": {"prometheus.io/port": "80"}}, "env: METRICS_PORT .* annotation .* 80"),
        ("gpu", {"env.METRICS_PORT": "0"}, "env: METRICS_PORT is 0, any port"),
        ("gpu", {"job.ports": DELETED}, "ports: there is none with the name metrics"),
    ],
    "probes_ask_what_there_is": [
        ("gpu", {"job.livenessProbe.httpGet.path": "/readyz"}, "livenessProbe: has to get /healthz"),
        ("gpu", {"job.readinessProbe.httpGet.path": "/healthz"}, "readinessProbe: has to get /readyz"),
        ("gpu", {"job.readinessProbe.httpGet.port": 80}, "readinessProbe: has to get /readyz from the port metrics"),
        ("gpu", {"job.livenessProbe": {"exec": {"command": ["true"]}}}, "livenessProbe: has to get"),
        ("gpu", {"job.startupProbe": {"httpGet": {"path": "/readyz", "port": "metrics"}}}, "startupProbe: leave it out"),
    ],
    "liveness_is_patient": [
        ("gpu", {"job.livenessProbe.periodSeconds": 10}, "livenessProbe: gives up after 100 s"),
        ("gpu", {"job.livenessProbe.failureThreshold": DELETED}, "livenessProbe: gives up after 90 s"),
    ],
}
