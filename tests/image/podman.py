"""Containers of the image under test: how they are started, confined as docs/image.md shows it, and what they left."""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import Outcome

# No network, no rights, and a root that cannot be written: podman by itself would put writable folders over it.
CONFINED = (
    *("--network=none", "--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp"),
    *("--cap-drop=ALL", "--security-opt=no-new-privileges", "--shm-size=8g"),
)
STRANGER = 54321  # a uid and gid that no file of the image knows


def podman(*arguments: str) -> str:
    """What it says. Raises: CalledProcessError"""
    return subprocess.run(["podman", *arguments], capture_output=True, text=True, check=True, timeout=280).stdout


def settings_of_podman() -> dict[str, str]:
    """For a process with a bare environment: where podman finds the storage that the image is in."""
    names = ("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF")
    return {name: os.environ[name] for name in names if name in os.environ}


@dataclass(frozen=True)
class Image:
    """The image that `make test-image` built."""

    name: str

    def command(
        self,
        *options: str,
        user: int | None = None,
        mounts: Mapping[Path, str] | None = None,
        entrypoint: Sequence[str] = (),
        **variables: object,
    ) -> list[str]:
        """`podman run`. mounts: folders and files of this machine, and where they are inside; variables: all that are set."""
        return [
            *("podman", "run", "--rm", *CONFINED, *options),
            *([f"--user={user}:{user}"] if user else []),
            *(f"--volume={path}:{inside}" for path, inside in (mounts or {}).items()),
            *(f"--env={name}={value}" for name, value in variables.items()),
            *([f"--entrypoint={entrypoint[0]}"] if entrypoint else []),
            self.name,
            *entrypoint[1:],
        ]

    def run(self, *options: str, **more: object) -> Outcome:
        """The job in a container, to its end. Every line of its standard output must be JSON."""
        started = time.monotonic()
        command = self.command(*options, **more)  # type: ignore[arg-type]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        return Outcome(done.returncode, events, done.stderr, time.monotonic() - started)

    def shell(self, script: str, *options: str, user: int | None = None) -> str:
        """What a shell in a container says."""
        command = self.command(*options, user=user, entrypoint=["bash", "-euc", script])
        done = subprocess.run(command, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def inspected(self) -> Mapping[str, object]:
        (facts,) = json.loads(podman("image", "inspect", self.name))
        return dict(facts)


def folder_for(user: int, path: Path) -> Path:
    """A folder of this machine that belongs to a user of a container, reachable by it."""
    path.mkdir(parents=True, exist_ok=True)
    os.chown(path, user, user)
    return path
