"""Answers for the rows of a run that have none: prompts go to a spool, then to the engine, and finished rows to the journal.

Everything that can be checked without the model comes before it is loaded.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import structlog

from job import canary, generation, prompts, starting
from job.disk import disk_errors, json_text, write_whole
from job.effects import Account, Effects
from job.errors import EngineError, FailedRowsError, JobError, Problem, SettingsError, StoppedError
from job.files import read_json
from job.journal import Journal, Positions
from job.lengths import Lengths
from job.plan import Plan
from job.progress import Progress
from job.protocols import Engine, Hub, Stop
from job.records import Prompt, ResultRow, Row
from job.shutdown import Interrupted, breaking_off
from job.spool import Spool

ENGINE_FACTS = "engine.json"
_ALARM_REMEDY = (
    "so many answers change in company that rounding is hardly the reason: look at the first answers, and compare them with "
    "those of ENFORCE_EAGER=true"
)

log = structlog.get_logger()


def answer(plan: Plan, journal: Journal, done: Positions, hub: Hub, effects: Effects, account: Account) -> None:
    """Prompt the rows that have no answer yet, and answer those that can be."""
    with Spool(plan.folder) as spool:
        with breaking_off(effects.stop, lambda: stopped(plan, effects.stop, done.count)):
            plan.backend.check()
            spool_prompts(plan, spool, done, account)
            if plan.repo_id:
                hub.prepare_target(plan.repo_id)
        if spool.failures:
            _record_failures(plan, journal, spool, account)
        if spool.rows > spool.failures:
            _answer_spooled(plan, journal, spool, done.count + spool.failures, effects, account)


def spool_prompts(plan: Plan, spool: Spool, done: Positions, account: Account) -> Lengths:
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


def stopped(plan: Plan, stop: Stop, rows_done: int) -> StoppedError:
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


def _record_failures(plan: Plan, journal: Journal, spool: Spool, account: Account) -> None:
    with journal.writer() as writer:
        for prompt in spool:
            if prompt.failure:
                log.warning("row_failed", position=prompt.position, reason=prompt.failure.reason, error=prompt.failure.message)
                row = generation.failed_row(prompt, plan.settings.sampling.num_samples)
                writer.append(row)
                account.count(row)


def _reason(prompt: Prompt) -> str:
    return prompt.failure.message if prompt.failure else ""


def _answer_spooled(plan: Plan, journal: Journal, spool: Spool, finished: int, effects: Effects, account: Account) -> None:
    """Load the model and answer the spooled prompts. `finished` rows are done already."""
    try:
        complete = not effects.stop.signal and _generate(plan, journal, spool, finished, effects, account)
    except JobError as error:
        account.engine_failed = isinstance(error, EngineError)
        if not (effects.stop.signal and isinstance(error, EngineError)):  # else the signal reached the engine too
            error.add_note(_safe(plan, finished + account.generated))
            raise
        complete = False
    if not complete:
        raise stopped(plan, effects.stop, finished + account.generated)


def _generate(plan: Plan, journal: Journal, spool: Spool, finished: int, effects: Effects, account: Account) -> bool:
    """Whether all prompts were answered, rather than the run stopped."""
    rows = spool.rows - spool.failures
    log.info("engine_starting", rows_pending=rows)
    with ExitStack() as opened:
        try:
            with starting.told(_start_phase(plan, account), plan.settings.run.progress_seconds, effects.bar_on, effects.clock):
                with account.phase("engine_start"), effects.stop.interrupting():
                    engine = plan.backend.open(rows * plan.settings.sampling.num_samples)
                opened.push(_leaving(engine.__enter__(), account))
                account.add_parts("engine_start", engine.start_seconds)
                facts = _sung(plan, spool, engine, effects, account) if spool.canary else engine.facts
        except Interrupted:
            return False
        with disk_errors(plan.folder):
            if finished:
                earlier = engine_facts(plan.part_folder)
                _check_hardware(plan, earlier, facts)
                facts = canary.with_earlier(facts, earlier)
            write_whole(plan.part_folder / ENGINE_FACTS, json_text(facts))
        log.info("engine_ready", seconds=account.seconds["engine_start"], seconds_by_phase=engine.start_seconds, **facts)
        return _feed(plan, journal, spool, engine, finished, effects, account)


def _leaving(engine: Engine, account: Account) -> Callable[..., None]:
    """The way out of an engine, which takes seconds where it has processes of its own."""

    def leave(*error: object) -> None:
        with account.phase("engine_stop"):
            engine.__exit__(*error)

    return leave


def _start_phase(plan: Plan, account: Account) -> Callable[[], str]:
    """What the start of the engine is at: the backend knows, until it has made one."""

    def phase() -> str:
        current = account.current  # once: another thread sets it
        return "canary" if current and current[0] == "canary" else plan.backend.phase

    return phase


def _sung(plan: Plan, spool: Spool, engine: Engine, effects: Effects, account: Account) -> Mapping[str, object]:
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
    if record.is_alarming:
        first = findings.differences[0]
        log.warning("canary_alarming", alone=first.alone.text, in_company=first.in_company.text, remedy=_ALARM_REMEDY)
    log.info("canary_answered", seconds=account.seconds["canary"], judged=record.judged, differing=record.differing)
    return findings.beside(engine.facts)


def _feed(
    plan: Plan, journal: Journal, spool: Spool, engine: Engine, finished: int, effects: Effects, account: Account
) -> bool:
    """Whether all prompts were answered, rather than the run stopped. Each row is in the journal as soon as it is finished."""
    seconds = plan.settings.run.progress_seconds
    writer = journal.writer()  # after the engine: a fork must copy neither its thread nor its connection
    with Progress(
        plan.rows.rows,
        finished,
        seconds,
        effects.bar_on,
        effects.clock,
        safe=lambda: writer.safe_rows,
        load=lambda: engine.load,
    ) as progress:
        account.progress = progress

        def on_row(row: ResultRow) -> None:
            writer.append(row)
            account.count(row)
            progress.add(row)
            for completion in row.completions:
                if completion.error:
                    log.warning("row_failed", position=row.position, reason=completion.finish_reason, error=completion.error)

        sampling = plan.settings.sampling
        answerable = (prompt for prompt in spool if not prompt.failure)
        complete = False
        try:
            with (
                account.phase("generation"),
                writer,
                progress.told(),
                suppress(Interrupted),  # the engine gave no row until the grace was over
            ):
                complete = generation.generate(
                    answerable, engine, seed=sampling.seed, num_samples=sampling.num_samples, stop=effects.stop, on_row=on_row
                )
        finally:
            account.generated = writer.safe_rows
            log.info("progress", **progress.event())
    return complete


def engine_facts(folder: Path) -> Mapping[str, object]:
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
