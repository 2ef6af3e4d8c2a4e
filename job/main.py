"""The environment becomes settings, the settings a run, and the run an exit code."""

import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

import structlog

from job import __version__, image, lengths, logs
from job.engine.postmortem import LAST_WORDS_VARIABLE
from job.errors import JobError
from job.scratch import scratch_folder
from job.settings import Settings, near_misses
from job.shutdown import StopSignal

log = structlog.get_logger("job")
summary_log = structlog.get_logger(logs.SUMMARY_LOGGER)

_SHOWN_SHARDS = 10

# What other libraries read from the environment when they are imported; a value that is already set wins.
LIBRARY_DEFAULTS = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # datasets would name each dataset, a private one too, to a server that is not the Hub
    "TOKENIZERS_PARALLELISM": "false",  # its threads would not survive the engine's fork
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",  # measured on two cores: 1.4 times as fast as with one of them left idle
    "VLLM_HOST_IP": "127.0.0.1",  # the engine's processes talk to each other on this machine only
    "VLLM_NO_USAGE_STATS": "1",
}
QUIET_DEFAULTS = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TORCH_LOGS": "-all",
    "TRANSFORMERS_VERBOSITY": "error",
}


def main(environ: MutableMapping[str, str], stop: StopSignal, **effects: Any) -> int:
    """Run the job that the environment describes.

    effects: others than the usual ones, see job.effects.Effects.

    Returns: the exit code, see job.errors. The last log line says what happened, what is safe and what to run next.
    """
    return carry_out(environ, stop, lambda settings: _answer(settings, environ, {"stop": stop, **effects}))


def carry_out(environ: MutableMapping[str, str], stop: StopSignal, work: Callable[[Settings], Mapping[str, object]]) -> int:
    """Do the work with the settings of the environment, and say in the last log line how it ended.

    stop: whether a signal came, also before this; work: gives the fields of the last line where it succeeds.

    Returns: the exit code, see job.errors.
    """
    started, given = time.monotonic(), dict(environ)
    for name, value in (LIBRARY_DEFAULTS | QUIET_DEFAULTS).items():
        environ.setdefault(name, value)
    log_format = logs.resolve_format(environ.get("LOG_FORMAT") or "auto", sys.stdout)
    logs.configure(log_format if log_format in ("json", "console") else "json", "INFO", environ)
    try:
        for name, meant in near_misses(given).items():
            log.warning("unknown_variable", variable=name, meant=meant)
        settings = Settings.from_env(environ)
        logs.configure(log_format, settings.run.log_level, environ)
        log.info("settings_loaded", **settings.shown())
        stop.grace_seconds = settings.run.shutdown_grace_seconds
        with scratch_folder(environ) as scratch:
            environ[LAST_WORDS_VARIABLE] = str(scratch / "last-words.jsonl")
            # No settings of a person's get into a plot, and nothing of it stays.
            environ["MPLCONFIGDIR"] = str(scratch / "matplotlib")
            environ["MPLBACKEND"] = "agg"  # a notebook names its own, and matplotlib refuses to be imported without that
            summary_log.info("run_finished", exit_code=0, **work(settings), seconds=_since(started))
            return 0
    except JobError as error:
        summary_log.error(
            "run_finished",
            exit_code=error.exit_code,
            error=type(error).__name__,
            message=error.message,
            seconds=_since(started),
        )
        return error.exit_code
    except Exception:
        summary_log.exception(
            "run_finished", exit_code=1, message="a bug: please report it with this traceback; finished rows are safe"
        )
        return 1


def _answer(settings: Settings, environ: MutableMapping[str, str], given: Mapping[str, Any]) -> Mapping[str, object]:
    with ExitStack() as shown:
        watched = _watched(settings, shown) if settings.run.metrics_port is not None else {}
        return _run(settings, environ, {**watched, **given})


def _watched(settings: Settings, shown: ExitStack) -> Mapping[str, Any]:
    """Effects that have others see how the run is, until `shown` is closed. Raises: SettingsError where the port is taken."""
    from job import metrics_server

    listening = metrics_server.listen(settings.run.metrics_port or 0)  # first: what follows takes a second to be imported
    shown.enter_context(listening)
    from job import hub, metrics

    run_metrics = metrics.RunMetrics(__version__)
    shown.enter_context(metrics_server.serving(listening, metrics.pages(run_metrics)))
    log.info("metrics_listening", port=listening.getsockname()[1])
    return {"show": run_metrics.show, "connect": partial(hub.connect, on_retry=run_metrics.count_retry)}


def _run(settings: Settings, environ: MutableMapping[str, str], given: Mapping[str, Any]) -> Mapping[str, object]:
    from job import pipeline  # imports what the environment above configures
    from job.effects import Effects

    effects = Effects(
        bind_log=lambda **context: logs.bind(environ, **context),
        bar_on=sys.stderr if sys.stderr.isatty() else None,
        image=image.described(environ),
        **given,
    )
    if settings.run.dry_run:
        estimate = pipeline.rehearse(settings, effects)
        log.info("dry_run", **asdict(estimate))
        return {"dry_run": True, "message": "everything was checked; nothing was generated or published"}
    summary = pipeline.run(settings, effects)
    answers = lengths.of_answers(asdict(summary.tally))
    published = asdict(summary.published) if summary.published else {}
    where = f" and published in {published['repo_id']} at {published['commit']}" if published else ""
    if summary.missing_shards:
        shown = ", ".join(map(str, summary.missing_shards[:_SHOWN_SHARDS]))
        where = f". This is one shard's part; the last of them to end makes the results. Not there yet: {shown}"
    if answers.runaways:
        where += f". Runaways: {answers.told}"
    if summary.budget.get("cost") is not None:
        where += f". Cost: {summary.budget['cost']:.10g} for {summary.budget['gpu_seconds']:.10g} GPU seconds"
    return {
        "message": f"{summary.tally.rows} rows, {summary.tally.failed_rows} of them failed, are in {summary.folder}{where}",
        "rows": summary.tally.rows,
        "failed_rows": summary.tally.failed_rows,
        "finish_reasons": dict(summary.tally.finish_reasons),
        "answers": asdict(answers),
        "prompt_tokens": summary.tally.prompt_tokens,
        "completion_tokens": summary.tally.completion_tokens,
        "generated_rows": summary.generated_rows,
        "seconds_by_phase": dict(summary.seconds),
        **({"budget": dict(summary.budget)} if summary.budget else {}),
        "results": str(summary.folder),
        **({"missing_shards": list(summary.missing_shards)} if summary.missing_shards else {}),
        **published,
    }


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)
