"""What a pod may do, where it may write, and how much it may take."""

import re
from collections.abc import Iterator

from scripts.manifests.job_manifest import GPU, JobManifest

POD = {"automountServiceAccountToken": False, "enableServiceLinks": False}
FORBIDDEN = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")
CONTEXT = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def pod_is_hardened(job: JobManifest) -> Iterator[str]:
    for name, value in POD.items():
        if job.pod.get(name) is not value:
            yield f"pod: {name} has to be {str(value).lower()}"
    for name in FORBIDDEN:
        if job.pod.get(name):
            yield f"pod: {name} is not for this job: leave it out"
    context = job.pod.get("securityContext") or {}
    if context.get("runAsNonRoot") is not True:
        yield "pod: securityContext.runAsNonRoot has to be true"
    if not context.get("runAsUser"):
        yield "pod: securityContext.runAsUser has to be a number other than 0, for runAsNonRoot to be decided by"
    if not context.get("runAsGroup"):
        yield "pod: securityContext.runAsGroup has to be a number other than 0, root's group"
    if not context.get("fsGroup"):
        yield "pod: securityContext.fsGroup has to be a number other than 0, or the volumes cannot be written"
    if (context.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
        yield "pod: securityContext.seccompProfile.type has to be RuntimeDefault"


def containers_are_hardened(job: JobManifest) -> Iterator[str]:
    for container in job.containers:
        context = container.get("securityContext") or {}
        where = f"container {container.get('name')}: securityContext"
        for name, value in CONTEXT.items():
            if context.get(name) != value:
                yield f"{where}.{name} has to be {value}"
        for name in context.keys() - CONTEXT.keys():
            yield f"{where}.{name} is set: the pod's securityContext decides"


def images_are_pinned(job: JobManifest) -> Iterator[str]:
    for container in job.containers:
        image = str(container.get("image", ""))
        tag = re.fullmatch(r"[^@]*?(?::([\w.-]+))?(@sha256:[0-9a-f]{64})?", image)
        if not tag or (not tag[2] and tag[1] in (None, "latest")):
            yield f"image {image!r}: name a version, as a tag other than latest or as a digest"


def volumes_are_there(job: JobManifest) -> Iterator[str]:
    for path, volume in job.mounts.items():
        if volume not in job.volumes:
            yield f"volume {volume}, mounted on {path}, does not exist"
    for volume in job.volumes.keys() - job.mounts.values():
        yield f"volume {volume} is not mounted"


def volumes_are_bounded(job: JobManifest) -> Iterator[str]:
    for name, volume in job.volumes.items():
        if "emptyDir" in volume and "sizeLimit" not in (volume["emptyDir"] or {}):
            yield f"volume {name}: emptyDir needs a sizeLimit, or it fills the node's disk"
        if "hostPath" in volume:
            yield f"volume {name}: hostPath opens the node: use a claim"


def what_is_written_has_a_volume(job: JobManifest) -> Iterator[str]:
    """The image's own file system is read-only."""
    places = {"OUTPUT_DIR": job.env.get("OUTPUT_DIR"), "HF_HOME": job.env.get("HF_HOME"), "TMPDIR": "/tmp"}
    for name, path in places.items():
        if path is None:
            yield f"{name} is not set: say where in the container it is"
        elif job.mounted_on(path) is None:
            yield f"{name}: {path} is on no volume, and the root file system is read-only"
    shared = job.volumes.get(job.mounted_on("/dev/shm") or "", {})
    if (shared.get("emptyDir") or {}).get("medium") != "Memory":
        yield "/dev/shm has to be an emptyDir with medium Memory: a container's own has 64 MB, too little for vLLM"


def results_outlive_the_pod(job: JobManifest) -> Iterator[str]:
    results = job.volumes.get(job.mounted_on(job.env.get("OUTPUT_DIR", "")) or "", {})
    if "emptyDir" in results and job.env.get("ENGINE") != "echo":
        yield "OUTPUT_DIR is on an emptyDir, which ends with the pod: finished rows would be lost. Use a claim"


def resources_are_said(job: JobManifest) -> Iterator[str]:
    for kind, names in {"requests": ("cpu", "memory", "ephemeral-storage"), "limits": ("memory", "ephemeral-storage")}.items():
        for name in names:
            if name not in job.resources(kind):
                yield f"resources.{kind}.{name} is missing"


def gpus_are_as_many_as_the_engine_wants(job: JobManifest) -> Iterator[str]:
    given = str(job.resources("limits").get(GPU, 0))
    asked = str(job.resources("requests").get(GPU, given))
    wanted = job.env.get("TENSOR_PARALLEL_SIZE", "1")
    if given != wanted and (given, wanted) != ("0", "1"):  # 0: on a CPU
        yield f"resources.limits: {GPU} is {given}, and TENSOR_PARALLEL_SIZE is {wanted}: they have to be equal"
    if asked != given:
        yield f"resources.requests: {GPU} is {asked}, and has to equal the limit, {given}"


CHECKS = (
    pod_is_hardened,
    containers_are_hardened,
    images_are_pinned,
    volumes_are_there,
    volumes_are_bounded,
    what_is_written_has_a_volume,
    results_outlive_the_pod,
    resources_are_said,
    gpus_are_as_many_as_the_engine_wants,
)
