"""The order of work: plan, resume, prompt, answer, write, publish. Knows every stage and no detail of any.

Effects are passed in, so that tests can run all of it on fakes.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from job import answering, estimate, gathering, joining, manifest, publication, results
from job.budget import Budget
from job.budget import of_manifest as budget_of
from job.disk import check_no_links, check_writable, disk_errors, json_text, remove_whole, write_whole
from job.effects import Account, Effects
from job.errors import StoppedError
from job.estimate import Estimate
from job.joining import Joined
from job.journal import JOURNAL, Journal, Positions
from job.layout import CARD, IDENTITY, LATEST, MANIFEST, image_path
from job.lengths import of_answers
from job.plan import Plan, make_plan
from job.protocols import Hub
from job.records import Copies, Published, RunSummary
from job.run_lock import LOCK, NOTE, RunLock
from job.settings import Settings
from job.shutdown import Interrupted, breaking_off
from job.spending import Spending
from job.spool import Spool

_ENDLESS = (
    "an answer that was cut may need more room: raise MAX_TOKENS or MAX_MODEL_LEN. Or it does not end: a chat model ends its "
    "answers with PROMPT_TEMPLATE=chat; STOP ends one at a text, and REPETITION_DETECTION one that loops"
)

log = structlog.get_logger()


def run(settings: Settings, effects: Effects) -> RunSummary:
    """Generate what is missing, write the results, and publish them where that is asked for.

    Raises: a JobError, with every finished row safe in the journal.
    """
    account = Account(effects.clock)
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
        budget.model_dump() if (budget := budget_of(joined.facts)) else {},
    )


def _whole(plan: Plan, journal: Journal, hub: Hub, effects: Effects, account: Account) -> Joined:
    """A run of one shard."""
    facts = _part(plan, journal, _done(plan, journal, account), hub, effects, account)
    return Joined(facts, _publish(plan, journal, hub, account, facts))


def _shard(plan: Plan, journal: Journal, hub: Hub, effects: Effects, account: Account) -> Joined:
    """One shard of several: its part, unless it is on the Hub already, then the whole, where this makes it one."""
    done = _done(plan, journal, account)
    there = joining.found(plan, hub) if done.count < plan.rows.rows else None
    if isinstance(there, Joined):
        return there
    facts = there.own if there and there.own else _part(plan, journal, done, hub, effects, account)
    alone = gathering.alone(plan, effects.lock, effects.stop, effects.sleep)
    joined = joining.join(plan, facts, there, hub, partial(_publish, plan, journal, hub, account), alone)
    if joined.missing:
        log.info("shards_missing", missing=joined.missing, shards=plan.shard.count)
    return joined


def _part(plan: Plan, journal: Journal, done: Positions, hub: Hub, effects: Effects, account: Account) -> Mapping[str, Any]:
    """All rows of this shard answered and in the results folder. Its manifest."""
    spending = _spending(plan, done, account)
    if done.count < plan.rows.rows:
        journal.after_group = spending.note
        try:
            answering.answer(plan, journal, done, hub, effects, account)
        finally:
            spending.write()
    facts = _results(plan, journal, effects, account, spending)
    spending.write()
    _warn_of_runaways(facts)
    publication.check_failed_rows(plan, results.tally_of(facts))
    return facts


def _spending(plan: Plan, done: Positions, account: Account) -> Spending:
    """Facts of the engine are those of this process as soon as it has begun to load a model."""

    def facts() -> Mapping[str, object]:
        return answering.engine_facts(plan.part_folder) if "engine_start" in account.seconds else {}

    return Spending(plan.part_folder, account.elapsed, facts, done.count)


def _warn_of_runaways(facts: Mapping[str, Any]) -> None:
    """facts: the manifest of what this process answers."""
    if (answers := of_answers(facts["counts"])).are_notable:
        log.warning("runaways_found", **asdict(answers), remedy=_ENDLESS)


def _publish(
    plan: Plan, journal: Journal, hub: Hub, account: Account, facts: Mapping[str, Any], copies: Copies | None = None
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
    account = Account(effects.clock)
    _, plan, journal = _opened(settings, effects, account)
    with journal, Spool(plan.folder) as spool:
        done = _done(plan, journal, account)
        if done.count < plan.rows.rows:
            with breaking_off(effects.stop, lambda: answering.stopped(plan, effects.stop, done.count)):
                plan.backend.check()
                lengths = answering.spool_prompts(plan, spool, done, account)
            return estimate.estimate(plan.settings, plan.identity.facts, lengths, plan.folder.parent)
    return estimate.NOTHING_TO_DO


def _opened(settings: Settings, effects: Effects, account: Account) -> tuple[Hub, Plan, Journal]:
    """Everything before the first row is looked at."""

    def stopped() -> StoppedError:
        return StoppedError(
            f"stopped by {effects.stop.signal} before anything was generated; rows of earlier runs are safe. "
            f"Run the same command again."
        )

    with breaking_off(effects.stop, stopped):
        hub, plan = _planned(settings, effects, account)
        return hub, plan, _journal(plan, effects.lock)


def _planned(settings: Settings, effects: Effects, account: Account) -> tuple[Hub, Plan]:
    check_writable(settings.output.output_dir.expanduser())
    effects.show(account)
    hub = effects.connect(settings.hub, effects.stop)
    with account.phase("plan"):
        plan = make_plan(settings, hub, effects.choose_backend)
    about = {"run_id": plan.identity.short, "model": plan.name, "shard": str(plan.shard)}
    engine = plan.backend.facts
    account.about = {**about, "engine": str(engine["name"]), "engine_version": str(engine["version"])}
    effects.bind_log(**about)
    log.info("planned", rows=plan.rows.rows, results=str(plan.folder), publish_to=plan.repo_id)
    publication.check(plan, hub)
    return hub, plan


def _journal(plan: Plan, lock: Callable[[Path], RunLock]) -> Journal:
    folder, part = plan.folder / plan.shard.folder, plan.part_folder
    data = (part / publication.data_path_of(plan, plan.shard)).parent
    images = (plan.folder / image_path(*publication.place(plan))).parent
    with disk_errors(folder):  # all other files are made anew under another name and put in their places
        check_no_links(
            plan.top, [*(folder / name for name in (LOCK, NOTE, JOURNAL)), part / answering.ENGINE_FACTS, data, images]
        )
    return Journal(folder, plan.identity, lock(folder))


def _done(plan: Plan, journal: Journal, account: Account) -> Positions:
    """The rows that have their answers already."""
    with disk_errors(plan.folder):
        write_whole(plan.part_folder / IDENTITY, plan.identity.as_json())
    done = journal.answered(plan.rows.positions)
    account.rows, account.found = plan.rows.rows, done.count
    if done.count:
        log.info("resume_found", rows_done=done.count, rows=plan.rows.rows)
    return done


def _results(plan: Plan, journal: Journal, effects: Effects, account: Account, spending: Spending) -> Mapping[str, Any]:
    """The results folder, unless the grace is over before it is written."""
    try:
        with effects.stop.interrupting_after_grace():
            return _write_results(plan, journal, effects.image, account, spending)
    except Interrupted:
        raise answering.stopped(plan, effects.stop, plan.rows.rows) from None


def _write_results(
    plan: Plan, journal: Journal, image: Mapping[str, str] | None, account: Account, spending: Spending
) -> Mapping[str, Any]:
    """Write the results folder, unless it is there already, unharmed. Its manifest."""
    folder, path, rows = plan.part_folder, publication.data_path_of(plan, plan.shard), plan.rows
    beside = (CARD,) if plan.shard.whole else ()
    found = None if account.generated else results.read_finished(folder, path, rows.rows, beside)
    if found and manifest.is_of(found, plan.identity, plan.model, plan.adapter, plan.data):
        if plan.shard.whole:
            with disk_errors(folder):
                publication.remove_stale(plan, {path})
        return _priced(plan, found)
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
            engine=answering.engine_facts(folder),
            image=image,
            max_rows=plan.settings.data.max_rows,
            budget=Budget.of(spending.processes, written.tally.completion_tokens, plan.settings.output.gpu_price_per_hour),
        )
        if plan.shard.whole:
            publication.remove_stale(plan, {path})
        _describe(plan, facts)
    log.info("results_written", folder=str(folder), rows=written.tally.rows)
    return facts


def _priced(plan: Plan, found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The manifest of finished results, at the price that is set now."""
    budget = budget_of(found)
    priced = budget.priced(plan.settings.output.gpu_price_per_hour) if budget else None
    if priced == budget:
        return found
    facts = {**found, "budget": priced.model_dump() if priced else None}
    with disk_errors(plan.part_folder):
        _describe(plan, facts)
    return facts


def _describe(plan: Plan, facts: Mapping[str, Any]) -> None:
    """Write down what the data is that is in the shard's folder."""
    if plan.shard.whole:
        publication.write_described(plan, facts)
    else:
        write_whole(plan.part_folder / MANIFEST, json_text(facts))


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
