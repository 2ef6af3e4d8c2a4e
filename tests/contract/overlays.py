"""What kubectl renders of k8s/, once for all tests: a tenth of a second each time."""

import copy
import functools
from pathlib import Path
from typing import Any

from scripts.manifests import kustomize
from tests.support import ROOT

K8S = ROOT / "k8s"


@functools.cache
def _built(folder: Path) -> list[Any]:
    return kustomize.build(folder)


def built(folder: Path) -> list[Any]:
    """What a kustomization that stays as it is renders to; a copy, to be changed at will.

    Raises: KubectlError
    """
    return copy.deepcopy(_built(folder))


def manifests(kustomization: str) -> list[Any]:
    """The same of one of k8s/."""
    return built(K8S / kustomization)
