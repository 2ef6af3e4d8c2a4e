#!/usr/bin/env python3
"""The image's name, which `make image` builds, `make generate-all` runs and k8s/ names: `image_name.py VARIANT` prints it.

IMAGE of the environment or of .env names another. For a host that has Python and nothing else.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from job import __version__  # noqa: E402
from scripts.environment import layered, read  # noqa: E402

NAME = "answers-job"
SUFFIXES = {"gpu": "", "cpu": "-cpu"}


def image_name(environ: Mapping[str, str], variant: str = "gpu") -> str:
    """Name and tag. environ: with what .env sets in it."""
    return environ.get("IMAGE") or f"{NAME}:{__version__}{SUFFIXES[variant]}"


if __name__ == "__main__":
    if sys.argv[1:] not in ([variant] for variant in SUFFIXES):
        sys.exit(f"image_name: {' '.join(sys.argv[1:])!r} is no variant: {' or '.join(SUFFIXES)}")
    print(image_name(layered(os.environ, read(ROOT / ".env"), {}), sys.argv[1]))
