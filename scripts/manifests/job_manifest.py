"""A Job as it is read from YAML, and its parts; what is missing is empty."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Manifest = Mapping[str, Any]
GPU = "nvidia.com/gpu"
CONTAINER = "job"


def scalars(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every value that has no parts, with the keys that lead to it; items of a list have the path of the list."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from scalars(part, (*path, key))
    elif isinstance(value, list):
        for item in value:
            yield from scalars(item, path)
    else:
        yield path, value


@dataclass(frozen=True)
class JobManifest:
    manifest: Manifest

    @property
    def name(self) -> str:
        return str(self.manifest.get("metadata", {}).get("name", ""))

    @property
    def spec(self) -> Manifest:
        return self.manifest.get("spec") or {}

    @property
    def pod(self) -> Manifest:
        return (self.spec.get("template") or {}).get("spec") or {}

    @property
    def annotations(self) -> Manifest:
        """Those of the pod."""
        return ((self.spec.get("template") or {}).get("metadata") or {}).get("annotations") or {}

    @property
    def containers(self) -> Sequence[Manifest]:
        """All containers of the pod, those that run before the others too."""
        return [*(self.pod.get("initContainers") or []), *(self.pod.get("containers") or [])]

    @property
    def container(self) -> Manifest:
        """The container that runs the job."""
        return next((each for each in self.containers if each.get("name") == CONTAINER), {})

    @property
    def rules(self) -> Sequence[Manifest]:
        return (self.spec.get("podFailurePolicy") or {}).get("rules") or []

    @property
    def indexed(self) -> bool:
        return self.spec.get("completionMode") == "Indexed"

    @cached_property
    def env(self) -> Mapping[str, str]:
        """The variables whose values the manifest gives in plain text, as the container gets them: with $ for $$."""
        plain = [each for each in self.container.get("env") or [] if "value" in each]
        return {each["name"]: str(each["value"]).replace("$$", "$") for each in plain}

    @property
    def env_names(self) -> Sequence[str]:
        return [each["name"] for each in self.container.get("env") or []]

    def resources(self, kind: str) -> Manifest:
        """The `requests` or the `limits` of the container that runs the job."""
        return (self.container.get("resources") or {}).get(kind) or {}

    @property
    def volumes(self) -> Mapping[str, Manifest]:
        return {each["name"]: each for each in self.pod.get("volumes") or []}

    @property
    def mounts(self) -> Mapping[str, str]:
        """Volumes of the container that runs the job, by the folder they are mounted on."""
        return {each["mountPath"]: each["name"] for each in self.container.get("volumeMounts") or []}

    def mounted_on(self, path: str) -> str | None:
        """The volume that holds a path of the container; None where that is the image's own, read-only file system."""
        holding = [mount for mount in self.mounts if path == mount or path.startswith(mount.rstrip("/") + "/")]
        return self.mounts[max(holding, key=len)] if holding else None
