"""From settings to a plan: everything that costs seconds at most, done before anything that costs more.

Each problem found here spares the loading of a model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from job import dataset, prompts, results
from job.errors import Problem, SettingsError
from job.identity import Identity, describe
from job.protocols import Backend
from job.records import Source
from job.references import base_name, content_digest, is_local
from job.settings import Settings

Kind = Literal["model", "dataset"]
Resolve = Callable[[Kind, str, str, str | None], Source]
ChooseBackend = Callable[[Settings, Source], Backend]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done: which rows, by which model, in which words, and where the answers go."""

    settings: Settings
    backend: Backend
    model: Source
    data: Source
    rows: dataset.SourceRows
    template: prompts.Template
    identity: Identity
    folder: Path


def make_plan(settings: Settings, resolve: Resolve, choose_backend: ChooseBackend) -> Plan:
    """Resolve, open and check everything that the settings name.

    resolve: looks a Hub repository's commit up; choose_backend: the engine for a model, nothing loaded yet.
    Raises: a JobError that names the variable.
    """
    token = settings.hub.hf_token.get_secret_value() if settings.hub.hf_token else None
    _check_paths(settings)
    data = _data(settings, resolve, token)
    rows = dataset.open_rows(settings.data, data, token)
    log.info("dataset_loaded", rows=rows.rows, columns=rows.schema.names)
    results.check_names(rows.schema, settings.data.drop_columns, settings.sampling.num_samples)
    if settings.prompt.prompt_template in prompts.BUILT_IN:
        dataset.check_instruction_column(settings.data, rows.schema)
    template = prompts.open_template(settings.prompt, settings.data.instruction_column, rows.schema.names)
    model = _model(settings, resolve, token)  # last: a large model takes a while to be read for its digest
    backend = choose_backend(settings, model)
    log.info(
        "commits_resolved",
        model_id=model.name,
        model_commit=model.commit,
        dataset_id=data.name,
        dataset_commit=data.commit,
    )
    identity = describe(settings, model, data, template.facts, backend.facts)
    folder = settings.output.output_dir.expanduser() / base_name(model.name) / identity.short
    return Plan(settings, backend, model, data, rows, template, identity, folder)


def _check_paths(settings: Settings) -> None:
    """What can be told without reading any content: are the files there?"""
    if is_local(settings.data.dataset_id):
        dataset.check_files(settings.data.dataset_id)
    if settings.prompt.prompt_template not in prompts.BUILT_IN:
        prompts.read_template(Path(settings.prompt.prompt_template))
    if settings.engine.engine != "echo" and is_local(settings.model.model_id):
        _check_model_folder(settings.model.model_id)


def _check_model_folder(reference: str) -> Path:
    path = Path(reference).expanduser()
    if not path.is_dir():
        message = "no such folder: give the folder that holds config.json and the weights, or a Hub id"
        raise SettingsError([Problem("MODEL_ID", reference, message)])
    return path


def _model(settings: Settings, resolve: Resolve, token: str | None) -> Source:
    reference = settings.model.model_id
    if settings.engine.engine == "echo":
        return Source(reference, "none", local=False)
    if not is_local(reference):
        return resolve("model", reference, settings.model.model_revision, token)
    return _local_source("MODEL_ID", _check_model_folder(reference))


def _data(settings: Settings, resolve: Resolve, token: str | None) -> Source:
    reference = settings.data.dataset_id
    if not is_local(reference):
        return resolve("dataset", reference, settings.data.dataset_revision, token)
    return _local_source("DATASET_ID", dataset.check_files(reference))


def _local_source(variable: str, path: Path) -> Source:
    """Local files at the digest of their content."""
    try:
        return Source(str(path), f"sha256:{content_digest(path)}", local=True)
    except OSError as error:
        raise SettingsError([Problem(variable, str(path), f"cannot be read: {error}")]) from error
