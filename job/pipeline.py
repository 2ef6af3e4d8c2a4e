"""The order of work: plan, resume, prompt, answer, write, publish. Knows every stage and no detail of any.

Effects are passed in, so that tests can run all of it on fakes.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import structlog

from job import canary, estimate, gathering, generation, hub, joining, manifest, prompts, publication, results
from job.disk import check_no_links, check_writable, disk_errors, json_text, remove_whole, write_whole
from job.engine import choose_backend
from job.errors import EngineError, FailedRowsError, JobError, Problem, SettingsError, StoppedError
from job.estimate import Estimate
from job.files import read_json
from job.joining import Joined
from job.journal import JOURNAL, Journal, Positions
from job.layout import CARD, MANIFEST
from job.lengths import Lengths, of_answers
from job.plan import ChooseBackend, Plan, make_plan
from job.progress import Progress
from job.protocols import Engine, Hub, InterruptingStop, Stop
from job.records import Copies, Prompt, Published, ResultRow, Row, RunSummary
from job.run_lock import LOCK, NOTE, RunLock
from job.settings import HubSettings, Settings
from job.shutdown import Interrupted, breaking_off
from job.spool import Spool

ENGINE_FACTS = "engine.json"
LATEST = "latest"
_ENDLESS = (
    "an answer that was cut may need more room: raise MAX_TOKENS or MAX_MODEL_LEN. Or it does not end: a chat model ends its "
    "answers with PROMPT_TEMPLATE=chat; STOP ends one at a text, and REPETITION_DETECTION one that loops"
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Effects:
    """What a run does to the world, replaceable by tests. image: what it runs in, see job.image."""

    stop: InterruptingStop
    choose_backend: ChooseBackend = choose_backend
    connect: Callable[[HubSettings, Stop], Hub] = hub.connect
    lock: Callable[[Path], RunLock] = RunLock
    bind_log: Callable[..., object] = structlog.contextvars.bind_contextvars
    bar_on: TextIO | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    image: Mapping[str, str] | None = None


@dataclass(slots=True)
class _Account:
    """What this process did: rows it generated and has on disk, and seconds by phase."""

    clock: Callable[[], float]
    generated: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = self.clock()
        try:
            yield
        finally:
            self.seconds[name] = round(self.clock() - started, 3)

    def add_parts(self, name: str, parts: Mapping[str, float]) -> None:
        """Where the seconds of a phase went."""
        self.seconds |= {f"{name}.{part}": seconds for part, seconds in parts.items()}


def run(settings: Settings, effects: Effects) -> RunSummary:
    """Generate what is missing, write the results, and publish them where that is asked for.

    Raises: a JobError, with every finished row safe in the journal.
    """
    account = _Account(effects.clock)
    hub, plan, journal = _opened(settings, effects, account)
    with journal:
        joined = (_whole if plan.shard.whole else _shard)(plan, journal, hub, effects, account)
    return RunSummary(
        plan.name,
        plan.folder if (plan.folder / MANIFEST).is_file() else plan.part_folder,
        results.tally_of(joined.facts),
        account.generated,
        account.seconds,
        joined.published,
        joined.missing,
    )


def _whole(plan: Plan, journal: Journal, hub: Hub, effects: Effects, account: _Account) -> Joined:
    """A run of one shard."""
    facts = _part(plan, journal, _done(plan, journal), hub, effects, account)
    return Joined(facts, _publish(plan, journal, hub, account, facts))


def _shard(plan: Plan, journal: Journal, hub: Hub, effects: Effects, account: _Account) -> Joined:
    """One shard of several: its part, unless it is on the Hub already, then the whole, where this makes it one."""
    done = _done(plan, journal)
    there = joining.found(plan, hub) if done.count < plan.rows.rows else None
    if isinstance(there, Joined):
        return there
    facts = there.own if there and there.own else _part(plan, journal, done, hub, effects, account)
    alone = gathering.alone(plan, effects.lock, effects.stop, effects.sleep)
    joined = joining.join(plan, facts, there, hub, partial(_publish, plan, journal, hub, account), alone)
    if joined.missing:
        log.info("shards_missing", missing=joined.missing, shards=plan.shard.count)
    return joined


def _part(plan: Plan, journal: Journal, done: Positions, hub: Hub, effects: Effects, account: _Account) -> Mapping[str, Any]:
    """All rows of this shard answered and in the results folder. Its manifest."""
    if done.count < plan.rows.rows:
        _answer(plan, journal, done, hub, effects, account)
    facts = _results(plan, journal, effects, account)
    _warn_of_runaways(facts)
    publication.check_failed_rows(plan, results.tally_of(facts))
    return facts


def _warn_of_runaways(facts: Mapping[str, Any]) -> None:
    """facts: the manifest of what this process answers."""
    if (answers := of_answers(facts["counts"])).are_notable:
        log.warning("runaways_found", **asdict(answers), remedy=_ENDLESS)


def _publish(
    plan: Plan, journal: Journal, hub: Hub, account: _Account, facts: Mapping[str, Any], copies: Copies | None = None
) -> Published | None:
    """The end of a run whose results are all there: in its folder, or to be copied on the Hub. facts: its manifest."""
    if copies is None:
        _point_to_latest(plan.folder)
    journal.check_held()
    with account.phase("publication"):
        return publication.publish(plan, facts, hub, copies)


def rehearse(settings: Settings, effects: Effects) -> Estimate:
    """Everything that comes before the model is loaded, and an estimate of what would follow. Nothing is published or recorded.

    Raises: a JobError, as `run` would.
    """
    account = _Account(effects.clock)
    _, plan, journal = _opened(settings, effects, account)
    with journal, Spool(plan.folder) as spool:
        done = _done(plan, journal)
        if done.count < plan.rows.rows:
            with breaking_off(effects.stop, lambda: _stopped(plan, effects.stop, done.count)):
                plan.backend.check()
                lengths = _spool(plan, spool, done, account)
            return estimate.estimate(plan.settings, plan.identity.facts, lengths, plan.folder.parent)
    return estimate.NOTHING_TO_DO


def _opened(settings: Settings, effects: Effects, account: _Account) -> tuple[Hub, Plan, Journal]:
    """Everything before the first row is looked at."""

    def stopped() -> StoppedError:
        return StoppedError(
            f"stopped by {effects.stop.signal} before anything was generated; rows of earlier runs are safe. "
            f"Run the same command again."
        )

    with breaking_off(effects.stop, stopped):
        hub, plan = _planned(settings, effects, account)
        return hub, plan, _journal(plan, effects.lock)


def _planned(settings: Settings, effects: Effects, account: _Account) -> tuple[Hub, Plan]:
    check_writable(settings.output.output_dir.expanduser())
    hub = effects.connect(settings.hub, effects.stop)
    with account.phase("plan"):
        plan = make_plan(settings, hub, effects.choose_backend)
    effects.bind_log(run_id=plan.identity.short, model=plan.name, shard=str(plan.shard))
    log.info("planned", rows=plan.rows.rows, results=str(plan.folder), publish_to=plan.repo_id)
    publication.check(plan, hub)
    return hub, plan


def _journal(plan: Plan, lock: Callable[[Path], RunLock]) -> Journal:
    folder, part = plan.folder / plan.shard.folder, plan.part_folder
    data = (part / publication.data_path_of(plan, plan.shard)).parent
    with disk_errors(folder):  # all other files are made anew under another name and put in their places
        check_no_links(plan.top, [*(folder / name for name in (LOCK, NOTE, JOURNAL)), part / ENGINE_FACTS, data])
    return Journal(folder, plan.identity, lock(folder))


def _done(plan: Plan, journal: Journal) -> Positions:
    """The rows that have their answers already."""
    with disk_errors(plan.folder):
        write_whole(plan.part_folder / "identity.json", plan.identity.as_json())
    done = journal.answered(plan.rows.positions)
    if done.count:
        log.info("resume_found", rows_done=done.count, rows=plan.rows.rows)
    return done


def _answer(plan: Plan, journal: Journal, done: Positions, hub: Hub, effects: Effects, account: _Account) -> None:
    """Prompt the rows that have no answer yet, and answer those that can be."""
    with Spool(plan.folder) as spool:
        with breaking_off(effects.stop, lambda: _stopped(plan, effects.stop, done.count)):
            plan.backend.check()
            _spool(plan, spool, done, account)
            if plan.repo_id:
                hub.prepare_target(plan.repo_id)
        if spool.failures:
            _record_failures(plan, journal, spool)
        if spool.rows > spool.failures:
            _answer_spooled(plan, journal, spool, done.count + spool.failures, effects, account)


def _spool(plan: Plan, spool: Spool, done: Positions, account: _Account) -> Lengths:
    """Prompt the rows that have no answer yet: the last check, and the first that reads every row."""
    limit = plan.settings.engine.max_model_len
    lengths = Lengths(limit)
    with account.phase("prompts"):
        tokenizer = plan.backend.tokenizer()
        if plan.settings.run.canary:
            spool.canary = canary.fitted(prompts.encode(canary.TEXTS, tokenizer), limit)
        made = prompts.prepare(_pending(plan, done), plan.template, tokenizer, limit)
        spool.write(lengths.count(made))
    _check_unanswerable(plan, spool)
    log.info("preflight_passed", rows_pending=spool.rows, rows_failed=spool.failures, prompt_tokens=lengths.histogram())
    return lengths


def _pending(plan: Plan, done: Positions) -> Iterator[Row]:
    return (row for row in plan.rows.select(plan.template.columns) if row.position not in done)


def _stopped(plan: Plan, stop: Stop, rows_done: int) -> StoppedError:
    return StoppedError(f"stopped by {stop.signal}: {_safe(plan, rows_done)} Run the same command again to go on.")


def _safe(plan: Plan, rows: int) -> str:
    return f"{rows} of {plan.rows.rows} rows are safe in {plan.folder}."


def _check_unanswerable(plan: Plan, spool: Spool) -> None:
    """Rows that can never be answered end the run now, before the model is loaded, where there are more than allowed."""
    allowed = plan.settings.output.max_failed_rows
    if spool.failures > allowed:
        shown = "; ".join(f"row {prompt.position}: {_reason(prompt)}" for prompt in spool.first_failures)
        raise FailedRowsError(
            f"{spool.failures} of {plan.rows.rows} rows cannot be answered, and MAX_FAILED_ROWS={allowed}. {shown}. "
            f"Mend them, or set MAX_FAILED_ROWS={spool.failures} to record them as failed and answer the others."
        )


def _record_failures(plan: Plan, journal: Journal, spool: Spool) -> None:
    with journal.writer() as writer:
        for prompt in spool:
            if prompt.failure:
                log.warning("row_failed", position=prompt.position, reason=prompt.failure.reason, error=prompt.failure.message)
                writer.append(generation.failed_row(prompt, plan.settings.sampling.num_samples))


def _reason(prompt: Prompt) -> str:
    return prompt.failure.message if prompt.failure else ""


def _answer_spooled(plan: Plan, journal: Journal, spool: Spool, finished: int, effects: Effects, account: _Account) -> None:
    """Load the model and answer the spooled prompts. `finished` rows are done already."""
    try:
        complete = not effects.stop.signal and _generate(plan, journal, spool, finished, effects, account)
    except JobError as error:
        if not (effects.stop.signal and isinstance(error, EngineError)):  # else the signal reached the engine too
            error.add_note(_safe(plan, finished + account.generated))
            raise
        complete = False
    if not complete:
        raise _stopped(plan, effects.stop, finished + account.generated)


def _generate(plan: Plan, journal: Journal, spool: Spool, finished: int, effects: Effects, account: _Account) -> bool:
    """Whether all prompts were answered, rather than the run stopped."""
    rows = spool.rows - spool.failures
    log.info("engine_starting", rows_pending=rows)
    try:
        with account.phase("engine_start"), effects.stop.interrupting():
            engine = plan.backend.open(rows * plan.settings.sampling.num_samples)
    except Interrupted:
        return False
    account.add_parts("engine_start", engine.start_seconds)
    with engine:
        try:
            facts = _sung(plan, spool, engine, effects, account) if spool.canary else engine.facts
        except Interrupted:
            return False
        with disk_errors(plan.folder):
            if finished:
                earlier = _engine_facts(plan.part_folder)
                _check_hardware(plan, earlier, facts)
                facts = canary.with_earlier(facts, earlier)
            write_whole(plan.part_folder / ENGINE_FACTS, json_text(facts))
        log.info("engine_ready", seconds=account.seconds["engine_start"], seconds_by_phase=engine.start_seconds, **facts)
        return _feed(plan, journal, spool, engine, finished, effects, account)


def _sung(plan: Plan, spool: Spool, engine: Engine, effects: Effects, account: _Account) -> Mapping[str, object]:
    """What the engine says of itself, and what its canary found.

    Raises: EngineError where bytes are promised and it found a difference; Interrupted.
    """
    with account.phase("canary"), effects.stop.interrupting():
        findings = canary.sing(engine, spool.canary)
    if findings.errors:
        log.warning("canary_not_judged", prompts=len(findings.errors), error=findings.errors[0])
    if plan.settings.engine.reproducibility == "bitwise":
        findings.check(engine.facts)
    record = findings.record
    log.info("canary_answered", seconds=account.seconds["canary"], judged=record.judged, differing=record.differing)
    return findings.beside(engine.facts)


def _feed(
    plan: Plan, journal: Journal, spool: Spool, engine: Engine, finished: int, effects: Effects, account: _Account
) -> bool:
    """Whether all prompts were answered, rather than the run stopped. Each row is in the journal as soon as it is finished."""
    seconds = plan.settings.run.progress_seconds
    with Progress(plan.rows.rows, finished, seconds, effects.bar_on, effects.clock) as progress:
        writer = journal.writer()  # after the engine: a fork must copy neither its thread nor its connection

        def on_row(row: ResultRow) -> None:
            writer.append(row)
            progress.add(row, writer.safe_rows)
            for completion in row.completions:
                if completion.error:
                    log.warning("row_failed", position=row.position, reason=completion.finish_reason, error=completion.error)

        sampling = plan.settings.sampling
        answerable = (prompt for prompt in spool if not prompt.failure)
        complete = False
        try:
            with account.phase("generation"), writer, suppress(Interrupted):  # the engine gave no row until the grace was over
                complete = generation.generate(
                    answerable, engine, seed=sampling.seed, num_samples=sampling.num_samples, stop=effects.stop, on_row=on_row
                )
        finally:
            account.generated = writer.safe_rows
            log.info("progress", **progress.event(writer.safe_rows))
    return complete


def _results(plan: Plan, journal: Journal, effects: Effects, account: _Account) -> Mapping[str, Any]:
    """The results folder, unless the grace is over before it is written."""
    try:
        with effects.stop.interrupting_after_grace():
            return _write_results(plan, journal, effects.image, account)
    except Interrupted:
        raise _stopped(plan, effects.stop, plan.rows.rows) from None


def _write_results(plan: Plan, journal: Journal, image: Mapping[str, str] | None, account: _Account) -> Mapping[str, Any]:
    """Write the results folder, unless it is there already, unharmed. Its manifest."""
    folder, path, rows = plan.part_folder, publication.data_path_of(plan, plan.shard), plan.rows
    beside = (CARD,) if plan.shard.whole else ()
    found = None if account.generated else results.read_finished(folder, path, rows.rows, beside)
    if found and manifest.is_of(found, plan.identity, plan.model, plan.adapter, plan.data):
        if plan.shard.whole:
            with disk_errors(folder):
                publication.remove_stale(plan, {path})
        return found
    journal.check_held()
    with disk_errors(folder):
        remove_whole(folder / MANIFEST)  # until it is there again, the folder is not whole
        with account.phase("results"):
            written = results.write_data(
                folder,
                path,
                publication.result_schema(plan),
                rows.tables(publication.kept_columns(plan)),
                journal.rows(rows.positions),
                seed=plan.settings.sampling.seed,
                num_samples=plan.settings.sampling.num_samples,
                start=rows.start,
            )
        facts = manifest.build(
            identity=plan.identity,
            model=plan.model,
            adapter=plan.adapter,
            dataset=plan.data,
            tally=written.tally,
            generated_rows=account.generated,
            files=[written.file],
            seconds=account.seconds,
            engine=_engine_facts(folder),
            image=image,
        )
        if plan.shard.whole:
            publication.remove_stale(plan, {path})
            publication.write_described(plan, facts)
        else:
            write_whole(folder / MANIFEST, json_text(facts))
    log.info("results_written", folder=str(folder), rows=written.tally.rows)
    return facts


def _engine_facts(folder: Path) -> Mapping[str, object]:
    """What the engine said of itself when it last started for this run; empty where no row needed it."""
    try:
        facts = read_json(folder / ENGINE_FACTS)
    except (FileNotFoundError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _check_hardware(plan: Plan, earlier: Mapping[str, object], now: Mapping[str, object]) -> None:
    """What is promised to the byte holds on one kind of hardware. Raises: SettingsError where earlier rows are from another."""
    differing = [name for name in ("device", "torch", "dtype") if earlier and earlier.get(name) != now.get(name)]
    if plan.settings.engine.reproducibility != "bitwise" or not (differing or canary.conflict([earlier, now])):
        return
    then, here = (", ".join(f"{name} {facts.get(name)}" for name in differing) for facts in (earlier, now))
    others = "by an engine that gave other answers to the canary's prompts than this one"
    how = f"with {then}, and here it is {here}, which answers otherwise" if differing else others
    message = (
        f"the rows that are finished were answered {how}. Go on there, begin anew in another OUTPUT_DIR, or take "
        f"REPRODUCIBILITY=seeded"
    )
    raise SettingsError([Problem("REPRODUCIBILITY", "bitwise", message)])


def _point_to_latest(folder: Path) -> None:
    """`<model>/latest` leads to the run that finished last. A convenience: a file system without links goes without."""
    link, half_made = folder.with_name(LATEST), folder.with_name(f"{LATEST}.tmp")
    with suppress(OSError):
        half_made.unlink(missing_ok=True)
        half_made.symlink_to(folder.name)
        try:
            half_made.replace(link)
        except OSError:
            half_made.unlink()
