"""`python -m job.report RESULTS... --output report.html`: the answers of several runs side by side, in one HTML file.

RESULTS are results folders, or datasets on the Hub as `namespace/name[@revision]`. Ends with the job's errors and exit codes;
the last log line says where the report is, or what is wrong.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from job.errors import JobError, Problem, SettingsError, StoppedError
from job.process import as_process
from job.shutdown import StopSignal, breaking_off

if TYPE_CHECKING:
    from job.report.sources import Hub


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError([Problem("arguments", None, f"{message}. {self.format_usage().strip()}")])


def parser() -> argparse.ArgumentParser:
    made = _Parser(prog="python -m job.report", description="The answers of several runs side by side, in one HTML file.")
    made.add_argument("results", nargs="+", metavar="RESULTS", help="a results folder, or namespace/name[@revision] of the Hub")
    made.add_argument("--output", type=Path, default=Path("report.html"), help="the file to write (default: report.html)")
    return made


def main(arguments: Sequence[str], stop: StopSignal) -> int:
    """Returns: the exit code, see job.errors."""
    import structlog

    from job import logs

    def stopped() -> StoppedError:
        return StoppedError(f"stopped by {stop.signal}; no report was written. Run the same command again.")

    log_format = logs.resolve_format(os.environ.get("LOG_FORMAT") or "auto", sys.stdout)
    logs.configure(log_format if log_format in ("json", "console") else "json", "INFO", os.environ)
    log = structlog.get_logger(logs.SUMMARY_LOGGER)
    started = time.monotonic()
    try:
        stop.grace_seconds = 0  # nothing is begun that would have to be finished
        with breaking_off(stop, stopped):
            written = _write(arguments, stop)
        log.info("run_finished", exit_code=0, **written, seconds=round(time.monotonic() - started, 1))
        return 0
    except JobError as error:
        log.error("run_finished", exit_code=error.exit_code, error=type(error).__name__, message=error.message)
        return error.exit_code


def _write(arguments: Sequence[str], stop: StopSignal) -> Mapping[str, object]:
    from job.report.writing import write_report

    given = parser().parse_args(arguments)
    report = write_report(given.results, given.output, lambda: _connect(stop))
    return {
        "message": f"{report.rows} rows of {len(report.runs)} runs are in {report.path}: open it in a browser",
        "report": str(report.path),
        "rows": report.rows,
        "bytes": report.bytes,
        "runs": list(report.runs),
        "not_like_for_like": list(report.warnings),
    }


def _connect(stop: StopSignal) -> "Hub":
    """The Hub with the token of the environment. Raises: SettingsError where that is none."""
    from job.main import LIBRARY_DEFAULTS, QUIET_DEFAULTS
    from job.settings import Settings

    for name, value in (LIBRARY_DEFAULTS | QUIET_DEFAULTS).items():
        os.environ.setdefault(name, value)
    from job import hub  # imports what the environment above configures

    needless = {"MODEL_ID": "none", "DATASET_ID": "none"}
    return hub.connect(Settings.from_env(needless | {"HF_TOKEN": os.environ.get("HF_TOKEN", "")}).hub, stop)


if __name__ == "__main__":
    sys.exit(as_process(lambda stop: main(sys.argv[1:], stop)))
