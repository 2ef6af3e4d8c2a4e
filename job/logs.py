"""Structured logs: our own events and the standard library's records through one formatter, to standard output.

The engine's processes set their logging up by themselves; `ENGINE_LOGGING` is the configuration that they read, and it leads
them to the same formatter here.
"""

import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

ENGINE_LOGGING = Path(__file__).with_name("engine") / "logging.json"
# How the settings reach the engine's processes: in the environment that they inherit.
FORMAT_VARIABLE, LEVEL_VARIABLE, CONTEXT_VARIABLE = "JOB_LOG_FORMAT", "JOB_LOG_ENGINE_LEVEL", "JOB_LOG_CONTEXT"
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{8,}")


def resolve_format(wanted: str, stream: TextIO) -> str:
    """`auto` is console on a terminal and json elsewhere."""
    return wanted if wanted != "auto" else "console" if stream.isatty() else "json"


def configure(log_format: str, level: str, environ: MutableMapping[str, str]) -> None:
    """Set logging up for this process, and in `environ` for the engine's. Once, before anything logs.

    log_format: json or console; level: least severe level shown. The engine's own messages are shown from INFO in JSON,
    where machines read them; on a console only its errors are, unless level is DEBUG.
    """
    engine_level = (
        "INFO" if level == "DEBUG" else "ERROR" if log_format == "console" else max(level, "INFO", key=logging.getLevelName)
    )
    environ[FORMAT_VARIABLE], environ[LEVEL_VARIABLE] = log_format, engine_level
    environ.setdefault("VLLM_LOGGING_CONFIG_PATH", str(ENGINE_LOGGING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter(log_format))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("job").setLevel(level)
    logging.captureWarnings(capture=True)
    if log_format == "console":
        warnings.simplefilter("ignore")


def bind(environ: MutableMapping[str, str], **context: object) -> None:
    """Put these fields into every line from here on, the engine's included."""
    structlog.contextvars.bind_contextvars(**context)
    environ[CONTEXT_VARIABLE] = json.dumps(context)


def formatter(log_format: str, context: Mapping[str, object] | None = None) -> logging.Formatter:
    """The one formatter. context: fields for records of other libraries."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]

    def add_context(_logger: object, _method: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
        return {**(context or {}), **event}

    if log_format == "json":
        last: list[Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    else:
        plain = structlog.dev.plain_traceback  # no local values: one of them may be a secret
        last = [structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=plain)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.contextvars.merge_contextvars, add_context],
        processors=[*shared, structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last, _redact],
    )


def engine_handler() -> logging.Handler:
    """The handler of the engine's loggers, in whichever process: named in ENGINE_LOGGING."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setLevel(os.environ.get(LEVEL_VARIABLE, "INFO"))
    context = json.loads(os.environ.get(CONTEXT_VARIABLE, "{}"))
    handler.setFormatter(formatter(os.environ.get(FORMAT_VARIABLE, "json"), context))
    return handler


def _redact(_logger: object, _method: str, line: Any) -> str:
    """Access tokens never reach a line, whoever wrote it and however deep in a value or a traceback."""
    return _TOKEN.sub("hf_***", line)
