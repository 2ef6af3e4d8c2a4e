"""How a model is run: in a container of its own, or as a process. Both get their settings in the environment, and no argument
has a value of one: arguments are for all to see."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from job.errors import Problem, SettingsError
from job.references import is_local
from scripts.environment import LOOP_NAMES, ROOT, known_names
from scripts.loop.gpus import Slot
from scripts.loop.settings import METRICS_PORT, LoopSettings

PYTHON = ROOT / ".venv" / "bin" / "python"
ENGINES = ("docker", "podman")
RESULTS, CACHE = "/results", "/cache"  # in a container
LABEL = "answers-job"
# What else of the host's environment a container gets; folders of the host mean nothing there.
_FAMILIES = re.compile(r"(HF|VLLM|NCCL)_\w+(?<!_CACHE)(?<!_PATH)(?<!_ROOT)|(https?|no|all)_proxy", re.IGNORECASE)
_PATHS = ("MODEL_ID", "LORA_ID", "DATASET_ID", "PROMPT_TEMPLATE")
_HEALTHY_SECONDS = 15  # for the job to close its engine, after its own grace
_GRACE_SECONDS = 20  # the job's default


@dataclass(frozen=True)
class Command:
    """What is started for a model. at_the_end: the signal that it gets when the loop is gone, however that came."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    at_the_end: signal.Signals


class Runner(Protocol):
    """environ: the whole environment that the job is to have, for a model and a place to run it at."""

    @property
    def description(self) -> str:
        """What runs, for people."""

    def generate(self, environ: Mapping[str, str], slot: Slot) -> Command:
        """The job."""

    def fetch(self, environ: Mapping[str, str]) -> Command:
        """The download of the files that it needs."""

    def on_host(self, text: str) -> str:
        """A path or a message of the job, with the paths of results that this machine knows."""


@dataclass(frozen=True)
class Processes:
    """Plain processes of .venv. SIGKILL ends them with the loop: what is finished is safe."""

    description = "processes of .venv"

    def generate(self, environ: Mapping[str, str], slot: Slot) -> Command:
        chosen = {"CUDA_VISIBLE_DEVICES": ",".join(gpu.index for gpu in slot.gpus), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        return self._command("job", {**environ, **(chosen if slot.gpus else {})})

    def fetch(self, environ: Mapping[str, str]) -> Command:
        return self._command("job.fetch", environ)

    def on_host(self, text: str) -> str:
        return text

    def _command(self, module: str, environ: Mapping[str, str]) -> Command:
        return Command((str(PYTHON), "-m", module), environ, signal.SIGKILL)


@dataclass(frozen=True)
class Containers:
    """Containers of docker or podman. SIGTERM to the client, which is started here, reaches the job in the container."""

    engine: str
    image: str
    output: Path
    cache: Path
    grace_seconds: float = _GRACE_SECONDS
    user: tuple[int, int] = field(default_factory=lambda: (os.getuid(), os.getgid()))

    @property
    def description(self) -> str:
        return f"containers of {self.image}, by {self.engine}"

    def generate(self, environ: Mapping[str, str], slot: Slot) -> Command:
        return self._command(environ, [*self._devices(slot), *_published(environ)])

    def fetch(self, environ: Mapping[str, str]) -> Command:
        return self._command(environ, ["--entrypoint", "python"], ["-m", "job.fetch"])

    def on_host(self, text: str) -> str:
        return re.sub(rf"(?<![\w/]){RESULTS}/", lambda _: f"{self.output}/", text)

    def _command(self, environ: Mapping[str, str], options: list[str], arguments: list[str] | None = None) -> Command:
        local = {name: _absolute(environ[name]) for name in _PATHS if _is_here(environ.get(name, ""))}
        inside = {**environ, **local, "OUTPUT_DIR": RESULTS, "HF_HOME": CACHE}
        mounts = [
            f"{self.output}:{RESULTS}",
            f"{self.cache}:{CACHE}",
            *sorted({f"{path}:{path}:ro" for path in local.values()}),
        ]
        known = known_names()
        names = sorted(name for name in inside if name not in LOOP_NAMES and (name in known or _FAMILIES.fullmatch(name)))
        argv = [
            *(self.engine, "run", "--rm", "--pull", "never", "--label", LABEL),
            *("--user", ":".join(map(str, self.user)), *self._rootless()),
            *("--stop-timeout", str(int(self.grace_seconds) + _HEALTHY_SECONDS), "--shm-size", "8g"),
            *(word for mount in mounts for word in ("--volume", mount)),
            *(word for name in names for word in ("--env", name)),
            *options,
            self.image,
            *(arguments or []),
        ]
        return Command(tuple(argv), inside, signal.SIGTERM)

    def _devices(self, slot: Slot) -> list[str]:
        indexes = [gpu.index for gpu in slot.gpus]
        if self.engine == "podman":
            return [word for index in indexes for word in ("--device", f"nvidia.com/gpu={index}")]
        # The quotes are docker's: without them it takes what follows a comma for another option.
        return ["--gpus", f'"device={",".join(indexes)}"'] if indexes else []

    def _rootless(self) -> list[str]:
        """podman without root: the caller is to be the same user inside, and files need no labels of SELinux."""
        podman = self.engine == "podman"
        return ["--security-opt", "label=disable", *(["--userns", "keep-id"] if self.user[0] else [])] if podman else []


def _published(environ: Mapping[str, str]) -> list[str]:
    """The port of a container's metrics is one of the host's as well, as a process's would be; one that is any is not known."""
    port = environ.get(METRICS_PORT, "")
    return ["--publish", f"{port}:{port}"] if port.isdecimal() and int(port) else []


def choose(settings: LoopSettings, *, has_gpu: bool) -> Runner:
    """The runner that RUNNER names, or else containers where there are a GPU and an engine that works, and processes elsewhere.

    Raises: SettingsError where it cannot work.
    """
    engine = settings.runner
    if engine == "auto":
        engine = next((name for name in ENGINES if has_gpu and not _trouble(name)), "process")
    if engine == "process":
        if not PYTHON.exists():
            message = f"runs {PYTHON}, which is not there: run `make setup` for a CPU; for a GPU, install vLLM into .venv"
            raise SettingsError([Problem("RUNNER", "process", message)])
        return Processes()
    if trouble := _trouble(engine):
        raise SettingsError([Problem("RUNNER", engine, f"does not work here: {trouble}")])
    # Nothing is pulled: an image of this name in a public registry is somebody else's.
    if trouble := _trouble(engine, "image", "inspect", settings.image):
        message = f"{engine} has no such image ({trouble}): build it with `make image`, or pull it; RUNNER=process needs none"
        raise SettingsError([Problem("IMAGE", settings.image, message)])
    cache = Path(settings.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser().absolute()
    cache.mkdir(parents=True, exist_ok=True)  # the engine would make it, as root's
    return Containers(engine, settings.image, settings.output, cache, settings.number("SHUTDOWN_GRACE_SECONDS", _GRACE_SECONDS))


def _trouble(engine: str, *arguments: str) -> str:
    """What an engine says where it cannot do something; by default, anything: a client without its daemon is no engine."""
    if not shutil.which(engine):
        return "it is not installed"
    asked = subprocess.run([engine, *(arguments or ("info",))], capture_output=True, text=True, check=False)
    return (" ".join(asked.stderr.split()) or f"it ended with {asked.returncode}") if asked.returncode else ""


def _is_here(reference: str) -> bool:
    return bool(reference) and is_local(reference) and Path(reference).expanduser().exists()


def _absolute(reference: str) -> str:
    return str(Path(reference).expanduser().resolve())
