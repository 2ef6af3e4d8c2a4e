"""What the loop needs to know, out of the environment. What only a model's own run can judge is left to it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from job.errors import Problem, SettingsError
from job.references import run_name
from job.values import is_folder_name
from scripts.image_name import image_name
from scripts.model_ids import ModelId, parse

RUNNERS = ("auto", "docker", "podman", "process")
LOGS = "logs"
GPU_MEMORY_UTILIZATION = 0.9
METRICS_PORT = "METRICS_PORT"
_HIGHEST_PORT = 65535


@dataclass(frozen=True)
class Model:
    """One model of the loop. name: in folders and repositories, with its adapter."""

    id: ModelId
    name: str

    def __str__(self) -> str:
        return str(self.id)

    def variables(self) -> dict[str, str]:
        """What is set for this model alone."""
        return {"MODEL_ID": self.id.id} | ({"MODEL_REVISION": self.id.revision} if self.id.revision else {})


@dataclass(frozen=True)
class LoopSettings:
    """environ: what all models have in common; parallel: how many run at once; output: the folder of all results."""

    models: tuple[Model, ...]
    parallel: int
    runner: str
    image: str
    output: Path
    environ: Mapping[str, str]

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Raises: SettingsError with all problems at once."""
        problems: list[Problem] = []
        models: tuple[Model, ...] = ()
        try:
            models = tuple(_model(each, environ.get("LORA_ID")) for each in parse(environ.get("MODEL_IDS", "")))
        except (ValueError, RuntimeError) as error:  # or a path in the home of nobody
            problems.append(Problem("MODEL_IDS", None, str(error).removeprefix("MODEL_IDS: ")))
        runner, parallel = environ.get("RUNNER", RUNNERS[0]), environ.get("PARALLEL", "1")
        problems += [*_names(models), *_shared(environ, models)]
        if runner not in RUNNERS:
            problems.append(Problem("RUNNER", runner, f"is none of {', '.join(RUNNERS)}"))
        if environ.get("MPS", "auto") not in ("auto", "off"):
            problems.append(Problem("MPS", environ["MPS"], "is none of auto, off"))
        if not parallel.isdecimal() or int(parallel) < 1:
            problems.append(Problem("PARALLEL", parallel, "is not the number of models to run at once: 1 or more"))
        problems += _ports(environ, parallel, len(models))
        if problems:
            raise SettingsError(problems)
        common = {name: value for name, value in environ.items() if name not in ("MODEL_ID", "MODEL_REVISION")}
        return cls(
            models=models,
            parallel=min(int(parallel), len(models)),
            runner=runner,
            image=image_name(environ),
            output=Path(environ.get("OUTPUT_DIR", "results")).expanduser().absolute(),
            environ=common | child_settings(common),
        )

    def number(self, name: str, default: float) -> float:
        """A variable of the job's as a number above 0. What is none is the job's to refuse, so the default is as good."""
        try:
            value = float(self.environ.get(name, default))
        except ValueError:
            return default
        return value if 0 < value < float("inf") else default


def _model(model: ModelId, lora_id: str | None) -> Model:
    return Model(model, run_name(model.id, lora_id))


def child_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What the loop reads in the logs of its jobs, they have to say."""
    quiet = environ.get("LOG_LEVEL") in ("WARNING", "ERROR")
    return {"LOG_FORMAT": "json"} | ({"LOG_LEVEL": "INFO"} if quiet else {})


def _names(models: tuple[Model, ...]) -> Iterator[Problem]:
    """Two models of one name would share a folder and a repository, and one would replace the answers of the other."""
    seen: dict[str, Model] = {}
    for model in models:
        if not is_folder_name(model.name):
            yield Problem(
                "MODEL_IDS", str(model), "its last part, which names the folder of the results, is no name for a folder"
            )
        elif other := seen.get(model.name):
            yield Problem(
                "MODEL_IDS",
                f"{other} {model}",
                f"both would publish as {model.name}-results and share the folder {model.name}: run the second one by itself, "
                f"with an OUTPUT_DIR and a HUB_REPO_ID of its own",
            )
        seen.setdefault(model.name, model)


def metrics_port(environ: Mapping[str, str], place: int) -> dict[str, str]:
    """METRICS_PORT for the model at this place of those that run at once: the next one for each. 0 is any, for all of them.

    What is no number is the job's to refuse.
    """
    port = environ.get(METRICS_PORT, "")
    return {METRICS_PORT: str(int(port) + place)} if port.isdecimal() and int(port) else {}


def _ports(environ: Mapping[str, str], parallel: str, models: int) -> Iterator[Problem]:
    at_once = min(int(parallel), models) if parallel.isdecimal() else 1
    last = metrics_port(environ, at_once - 1).get(METRICS_PORT)
    if last and int(last) > _HIGHEST_PORT:
        message = (
            f"with PARALLEL={parallel}, ports up to {last} are needed, and {_HIGHEST_PORT} is the last: choose a lower one"
        )
        yield Problem(METRICS_PORT, environ[METRICS_PORT], message)


def _shared(environ: Mapping[str, str], models: tuple[Model, ...]) -> Iterator[Problem]:
    if environ.get("HUB_REPO_ID") and len(models) > 1:
        message = "is one repository, in which each model would replace the answers of the one before: use HUB_NAMESPACE"
        yield Problem("HUB_REPO_ID", environ["HUB_REPO_ID"], message)
