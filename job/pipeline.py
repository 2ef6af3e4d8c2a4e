"""The order of work, cheap before expensive: resolve, identify, look at the rows, resume, prompt, answer, write.

Knows every stage and no detail of any. Effects are passed in, so that tests can run all of it on fakes.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO

import structlog

from job import card, dataset, generation, hub, manifest, prompts, results
from job.disk import disk_errors, json_text, write_whole
from job.engine import choose_backend
from job.errors import FailedRowsError, Problem, SettingsError, StoppedError
from job.identity import Identity, describe
from job.journal import Journal, Positions
from job.progress import Progress
from job.protocols import Backend, Stop
from job.records import ResultRow, Row, RunSummary, Source, Tally
from job.references import base_name, content_digest, is_local
from job.settings import Settings
from job.spool import Spool

log = structlog.get_logger()
SHARD, SHARDS = 0, 1
"""One process answers all rows of a run."""
ENGINE_FACTS = "engine.json"
LATEST = "latest"


@dataclass(slots=True)
class Effects:
    """What a run does to the world, replaceable by tests."""

    stop: Stop
    choose_backend: Callable[[Settings, Source], Backend] = choose_backend
    resolve: Callable[[Literal["model", "dataset"], str, str, str | None], Source] = hub.resolve
    bind_log: Callable[..., None] = structlog.contextvars.bind_contextvars
    bar_on: TextIO | None = None
    clock: Callable[[], float] = time.monotonic


@dataclass(slots=True)
class _Run:
    """What is known about a run once everything cheap is done."""

    settings: Settings
    effects: Effects
    backend: Backend
    model: Source
    dataset: Source
    rows: dataset.SourceRows
    template: prompts.Template
    identity: Identity
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    generated: int = 0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to the phase of this name."""
        started = self.effects.clock()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0) + self.effects.clock() - started, 3)


def run(settings: Settings, effects: Effects) -> RunSummary:
    """Generate what is missing and write the results.

    Raises: a JobError, with every finished row safe in the journal.
    """
    opened = _open(settings, effects)
    with Journal(opened.folder / f"shard-{SHARD:05d}-of-{SHARDS:05d}", opened.identity) as journal:
        with disk_errors(opened.folder):
            write_whole(opened.folder / "identity.json", opened.identity.as_json())
        done = journal.answered(opened.rows.rows)
        if done.count:
            log.info("resume_found", rows_done=done.count, rows=opened.rows.rows)
        if done.count < opened.rows.rows:
            _answer(opened, journal, done)
        tally = _write_results(opened, journal)
        _point_to_latest(opened.folder)
    allowed = settings.output.max_failed_rows
    if tally.failed_rows > allowed:
        raise FailedRowsError(
            f"{tally.failed_rows} of {tally.rows} rows have no answer, MAX_FAILED_ROWS={allowed} allows fewer. "
            f"The others are safe in {opened.folder}; the same command tries only the failed ones again."
        )
    return RunSummary(opened.model.name, opened.folder, tally, opened.generated, opened.seconds)


def _open(settings: Settings, effects: Effects) -> _Run:
    """Everything that costs seconds at most: each problem found here spares the loading of a model."""
    model = _resolve("model", settings.model.model_id, settings.model.model_revision, settings, effects)
    backend = effects.choose_backend(settings, model)
    data = _resolve("dataset", settings.data.dataset_id, settings.data.dataset_revision, settings, effects)
    log.info("commits_resolved", model=model.name, model_commit=model.commit, dataset=data.name, dataset_commit=data.commit)
    rows = dataset.open_rows(settings.data, data, _token(settings))
    log.info("dataset_loaded", rows=rows.rows, columns=rows.schema.names)
    results.check_names(rows.schema, settings.data.drop_columns, settings.sampling.num_samples)
    if settings.prompt.prompt_template in ("alpaca", "chat"):
        dataset.check_instruction_column(settings.data, rows.schema)
    template = prompts.open_template(settings.prompt, settings.data.instruction_column, rows.schema.names)
    identity = describe(settings, model, data, template.facts, backend.facts)
    name = base_name(model.name)
    effects.bind_log(run_id=identity.short, model=name, shard=f"{SHARD}/{SHARDS}")
    folder = settings.output.output_dir.expanduser() / name / identity.short
    return _Run(settings, effects, backend, model, data, rows, template, identity, folder)


def _resolve(kind: Literal["model", "dataset"], reference: str, revision: str, settings: Settings, effects: Effects) -> Source:
    """A Hub repository at its commit, or local files at the digest of their content."""
    if kind == "model" and settings.engine.engine == "echo":
        return Source(reference, "none", local=False)
    if not is_local(reference):
        return effects.resolve(kind, reference, revision, _token(settings))
    if kind == "dataset":
        path = dataset.check_files(reference)
    elif not (path := Path(reference).expanduser()).exists():
        raise SettingsError([Problem("MODEL_ID", reference, "no such folder")])
    try:
        return Source(str(path), f"sha256:{content_digest(path)}", local=True)
    except OSError as error:
        raise SettingsError([Problem(f"{kind.upper()}_ID", reference, f"cannot be read: {error}")]) from error


def _token(settings: Settings) -> str | None:
    return settings.hub.hf_token.get_secret_value() if settings.hub.hf_token else None


def _answer(opened: _Run, journal: Journal, done: Positions) -> None:
    """Prompt the rows that have no answer yet, and answer those that can be."""
    settings = opened.settings
    opened.backend.check()
    with Spool(opened.folder) as spool:
        with opened.phase("prompts"):
            pending = _pending(opened, done)
            tokenizer = opened.backend.tokenizer()
            spool.write(prompts.prepare(pending, opened.template, tokenizer, settings.engine.max_model_len))
        _check_failures(opened, spool)
        log.info("preflight_passed", rows_pending=spool.rows, rows_failed=spool.failures)
        num_samples = settings.sampling.num_samples
        if spool.failures:
            with journal.writer() as writer:
                for prompt in spool:
                    if prompt.failure:
                        log.warning("row_failed", position=prompt.position, reason=prompt.failure.reason, error=prompt.failure.message)
                        writer.append(generation.failed_row(prompt, num_samples))
        if spool.rows > spool.failures:
            _generate(opened, journal, spool, done.count + spool.failures)


def _pending(opened: _Run, done: Positions) -> Iterator[Row]:
    return (row for row in opened.rows.select(opened.template.columns) if row.position not in done)


def _check_failures(opened: _Run, spool: Spool) -> None:
    """Rows that can never be answered end the run now, before the model is loaded, where there are more than allowed."""
    allowed = opened.settings.output.max_failed_rows
    if spool.failures <= allowed:
        return
    shown = "; ".join(f"row {prompt.position}: {prompt.failure.message}" for prompt in spool.first_failures if prompt.failure)
    raise FailedRowsError(
        f"{spool.failures} of {opened.rows.rows} rows cannot be answered, MAX_FAILED_ROWS={allowed} allows fewer. {shown}. "
        f"Mend them, or set MAX_FAILED_ROWS={spool.failures} to record them as failed and answer the others."
    )


def _generate(opened: _Run, journal: Journal, spool: Spool, finished: int) -> None:
    settings, effects = opened.settings, opened.effects
    with opened.phase("engine_start"):
        engine = opened.backend.open()
    with disk_errors(opened.folder):
        write_whole(opened.folder / ENGINE_FACTS, json_text(engine.facts))
    log.info("engine_ready", seconds=opened.seconds["engine_start"], **engine.facts)
    with engine, Progress(opened.rows.rows, finished, effects.bar_on, effects.clock) as progress, journal.writer() as writer:

        def on_row(row: ResultRow) -> None:
            writer.append(row)
            progress.add(row)
            opened.generated += 1
            for completion in row.completions:
                if completion.error:
                    log.warning("row_failed", position=row.position, reason=completion.finish_reason, error=completion.error)

        with opened.phase("generation"):
            complete = generation.generate(
                (prompt for prompt in spool if not prompt.failure),
                engine,
                seed=settings.sampling.seed,
                num_samples=settings.sampling.num_samples,
                stop=effects.stop,
                on_row=on_row,
            )
        log.info("progress", **progress.event())
    if not complete:
        raise StoppedError(
            f"stopped by {effects.stop.signal}: {finished + opened.generated} of {opened.rows.rows} rows are safe in "
            f"{opened.folder}. Run the same command again to go on."
        )


def _write_results(opened: _Run, journal: Journal) -> Tally:
    """Write the results folder, unless it is there already, unharmed."""
    settings, folder, rows = opened.settings, opened.folder, opened.rows
    if not opened.generated and (found := results.read_finished(folder, rows.rows)):
        return results.tally_of(found)
    sampling = settings.sampling
    kept = [name for name in rows.schema.names if name not in settings.data.drop_columns]
    schema = dataset.extended(rows.schema, kept, results.result_columns(sampling.num_samples))
    path = results.data_path(settings.data.dataset_split, SHARD, SHARDS)
    with disk_errors(folder):
        with opened.phase("results"):
            written = results.write_data(
                folder,
                path,
                schema,
                rows.tables(kept),
                journal.rows(rows.rows),
                seed=sampling.seed,
                num_samples=sampling.num_samples,
            )
        facts = manifest.build(
            identity=opened.identity,
            model=opened.model,
            dataset=opened.dataset,
            tally=written.tally,
            files=[written.file],
            seconds=opened.seconds,
            engine=_engine_facts(folder),
        )
        info = dataset.dataset_info(schema, settings.data.dataset_split, [written.file])
        write_whole(folder / results.CARD, card.render(facts, info, str(folder)))
        write_whole(folder / results.MANIFEST, json_text(facts))
    log.info("results_written", folder=str(folder), rows=written.tally.rows)
    return written.tally


def _engine_facts(folder: Path) -> Mapping[str, object]:
    """What the engine said of itself when it last started for this run; empty where no row needed it."""
    try:
        facts: Mapping[str, object] = json.loads((folder / ENGINE_FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return facts


def _point_to_latest(folder: Path) -> None:
    """`<model>/latest` leads to the run that finished last. A convenience: a file system without links goes without."""
    link = folder.with_name(LATEST)
    half_made = folder.with_name(f"{LATEST}.tmp")
    with suppress(OSError):
        half_made.unlink(missing_ok=True)
        half_made.symlink_to(folder.name)
        half_made.replace(link)
