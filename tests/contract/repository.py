"""A copy of the repository, for commands that write into it."""

import shutil
import sys
from pathlib import Path

from tests.support import ROOT


def copy_of_the_repository(folder: Path) -> Path:
    """What the commands of the pages read; they write beside it."""
    folder.mkdir()
    for name in (".env.example", "Makefile", "docker", "job", "k8s", "requirements", "scripts"):
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "rendered", "*.whl"))
        else:
            shutil.copy(source, target)
    (folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
    return folder
