"""From settings to a plan: everything that costs seconds at most, done before anything that costs more.

Each problem found here spares the loading of a model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from job import dataset, prompts, results, values
from job.errors import Problem, SettingsError
from job.identity import Identity, describe
from job.local_files import check_folder, local_source
from job.model_files import files_of
from job.protocols import Backend, Hub, ModelFiles
from job.records import Kind, Source
from job.references import base_name, is_local, run_name
from job.settings import Settings
from job.shards import Shard

ChooseBackend = Callable[[Settings, ModelFiles, ModelFiles | None], Backend]
_LONGEST_NAME = 96  # of a repository on the Hub

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done: which rows, by which model, in which words, and where the answers go.

    name: of the model with its adapter, in folders and repositories; rows: this shard's; total_rows: those of all shards;
    repo_id: None where nothing is published; top: the folder of all results, folder: this run's, below it.
    """

    settings: Settings
    name: str
    backend: Backend
    model: Source
    adapter: Source | None
    data: Source
    rows: dataset.SourceRows
    total_rows: int
    shard: Shard
    template: prompts.Template
    identity: Identity
    top: Path
    folder: Path
    repo_id: str | None

    @property
    def part_folder(self) -> Path:
        """Where this shard leaves its results: in the run's folder, where it is the only one."""
        return self.folder if self.shard.whole else self.folder / self.shard.folder


def make_plan(settings: Settings, hub: Hub, choose_backend: ChooseBackend) -> Plan:
    """Resolve, open and check everything that the settings name.

    choose_backend: the engine for a model and an adapter, nothing loaded yet.
    Raises: a JobError that names the variable.
    """
    _check_paths(settings)
    _check_names(settings)
    name = run_name(settings.model.model_id, settings.model.lora_id)
    repo_id = _repo_id(settings, name)
    if repo_id:
        hub.check_target(repo_id)
    data = _data(settings, hub)
    rows = _open_rows(settings, hub, data)
    log.info("dataset_loaded", rows=rows.rows, columns=rows.schema.names)
    results.check_names(rows.schema, settings.data.drop_columns, settings.sampling.num_samples)
    if settings.prompt.prompt_template in prompts.BUILT_IN:
        dataset.check_instruction_column(settings.data, rows.schema)
    template = prompts.open_template(settings.prompt, settings.data.instruction_column, rows.schema.names)
    # Last: a large local model takes a while to be read for its digest.
    model = files_of(settings, hub, "model", settings.model.model_id, settings.model.model_revision)
    lora = settings.model.lora_id
    adapter = files_of(settings, hub, "adapter", lora, settings.model.lora_revision) if lora else None
    backend = choose_backend(settings, model, adapter)
    _log_commits(model.source, adapter.source if adapter else None, data)
    identity = describe(settings, model.source, data, template.facts, backend.facts, adapter.source if adapter else None)
    top, shard = settings.output.output_dir.expanduser(), settings.shards.shard
    return Plan(
        settings=settings,
        name=name,
        backend=backend,
        model=model.source,
        adapter=adapter.source if adapter else None,
        data=data,
        rows=rows.part(shard.positions(rows.rows)),
        total_rows=rows.rows,
        shard=shard,
        template=template,
        identity=identity,
        top=top,
        folder=top / name / identity.short,
        repo_id=repo_id,
    )


def _check_paths(settings: Settings) -> None:
    """What can be told without reading any content: are the files there?"""
    if is_local(settings.data.dataset_id):
        dataset.check_files(settings.data.dataset_id)
    if settings.prompt.prompt_template not in prompts.BUILT_IN:
        prompts.read_template(Path(settings.prompt.prompt_template))
    if settings.engine.engine == "echo":
        return
    references: list[tuple[Kind, str | None]] = [("model", settings.model.model_id), ("adapter", settings.model.lora_id)]
    for kind, reference in references:
        if reference and is_local(reference):
            check_folder(kind, reference)


def _check_names(settings: Settings) -> None:
    """The names of model and adapter become a folder's: it has to lie in OUTPUT_DIR."""
    for variable, reference in (("MODEL_ID", settings.model.model_id), ("LORA_ID", settings.model.lora_id)):
        if reference and not values.is_folder_name(base_name(reference)):
            message = "its last part, which names the folder of the results, is no name for a folder: rename it"
            raise SettingsError([Problem(variable, reference, message)])


def _repo_id(settings: Settings, name: str) -> str | None:
    if not settings.hub.publishes:
        return None
    repo_id = settings.hub.results_repo(name)
    if repo_id and len(repo_id.partition("/")[2]) > _LONGEST_NAME:
        message = f"is longer than the {_LONGEST_NAME} characters that the Hub allows: choose a name with HUB_REPO_ID"
        raise SettingsError([Problem("HUB_REPO_ID", repo_id, message)])
    return repo_id


def _data(settings: Settings, hub: Hub) -> Source:
    reference = settings.data.dataset_id
    if not is_local(reference):
        return hub.resolve("dataset", reference, settings.data.dataset_revision)
    return local_source("dataset", dataset.check_files(reference))


def _open_rows(settings: Settings, hub: Hub, data: Source) -> dataset.SourceRows:
    if data.local:
        return dataset.open_rows(settings.data, data)
    doing = f"DATASET_ID={data.name}"
    return dataset.open_rows(settings.data, data, settings.hub.token, lambda attempt: hub.read(attempt, doing))


def _log_commits(model: Source, adapter: Source | None, data: Source) -> None:
    lora = {"lora_id": adapter.name, "lora_commit": adapter.commit} if adapter else {}
    log.info(
        "commits_resolved",
        model_id=model.name,
        model_commit=model.commit,
        **lora,
        dataset_id=data.name,
        dataset_commit=data.commit,
    )
