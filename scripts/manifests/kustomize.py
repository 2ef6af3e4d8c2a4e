"""From YAML to manifests and back, as kubectl reads it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from scripts.manifests.job_manifest import Manifest

PLAIN = re.compile(r"[A-Za-z][\w./-]{2,}", re.ASCII)


class KubectlError(Exception):
    """kubectl is missing, or refused what it was given; the message is for people."""


class Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Quotes what Go's YAML takes for a number or a truth and Python's does not, such as 1e5 and y."""


Dumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, None if PLAIN.fullmatch(text) else '"')
)


def find_kubectl(path: str) -> str:
    """The command, in the folders of a search path.

    Raises: KubectlError where there is none.
    """
    found = shutil.which("kubectl", path=path)
    if found is None:
        raise KubectlError("kubectl is not installed: install it, or run `make k8s-jobs`, which does")
    return found


def build(folder: Path) -> list[Manifest]:
    """What a kustomization renders to, by the kubectl that is pinned in the virtual environment or by any other.

    Raises: KubectlError
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run([find_kubectl(path), "kustomize", str(folder)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise KubectlError(f"kubectl kustomize {folder}: {done.stderr.strip()}")
    return read(done.stdout)


def read(text: str) -> list[Manifest]:
    """The manifests of a file; empty documents are left out."""
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def write(manifests: Sequence[Manifest]) -> str:
    return str(yaml.dump_all(manifests, Dumper=Dumper, sort_keys=False, width=4096, allow_unicode=True))
