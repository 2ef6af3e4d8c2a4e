"""Structured logs: our own events and the standard library's records through one formatter, to standard output.

The engine's processes set their logging up by themselves; `ENGINE_LOGGING` is the configuration that they read, and it leads
them to the same formatter here.
"""

import io
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

from job.console import NAME_WIDTH, for_people
from job.values import SHORTEST_TOKEN

ENGINE_LOGGING = Path(__file__).with_name("engine") / "logging.json"
# How the settings reach the engine's processes: in the environment that they inherit.
FORMAT_VARIABLE, LEVEL_VARIABLE, CONTEXT_VARIABLE = "JOB_LOG_FORMAT", "JOB_LOG_ENGINE_LEVEL", "JOB_LOG_CONTEXT"
SECRET_VARIABLE = "HF_TOKEN"  # noqa: S105 (its name)
SUMMARY_LOGGER = "job.summary"
# An access token whoever's it is, and a password in an address.
_SECRETS = (re.compile(r"hf_[A-Za-z0-9_]{30,}"), re.compile(r"(?<=://)[^/\s]+(?=@)"))


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
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter(log_format, secret=_secret(environ)))
    logging.raiseExceptions = False  # a closed standard output is no reason to write unformatted lines elsewhere
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("job").setLevel(level)
    logging.getLogger(SUMMARY_LOGGER).setLevel(logging.INFO)  # the last line is always said
    logging.captureWarnings(capture=True)
    if log_format == "console":
        warnings.simplefilter("ignore")


def bind(environ: MutableMapping[str, str], **context: object) -> None:
    """Put these fields into every line from here on, the engine's included."""
    structlog.contextvars.bind_contextvars(**context)
    environ[CONTEXT_VARIABLE] = json.dumps(context)


def formatter(log_format: str, context: Mapping[str, object] | None = None, secret: str = "") -> logging.Formatter:
    """The one formatter. context: fields for records of other libraries; secret: a text that no line may hold."""
    clean = _without_secrets(secret)
    shared: list[Processor] = [structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name]

    def add_context(_logger: object, _method: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
        return {**(context or {}), **event}

    def redact(_logger: object, _method: str, line: Any) -> str:
        """The last step: whoever wrote the line, and however deep in a value or a traceback a secret is."""
        return clean(str(line))

    if log_format == "json":
        last: list[Processor] = [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    else:
        plain = structlog.dev.plain_traceback  # no local values: one of them may be a secret
        last = [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            partial(for_people, clean=clean),
            structlog.dev.ConsoleRenderer(
                colors=sys.stdout.isatty(), exception_formatter=plain, sort_keys=False, pad_event_to=NAME_WIDTH
            ),
        ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.contextvars.merge_contextvars, add_context],
        processors=[*shared, structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last, redact],
    )


def engine_handler() -> logging.Handler:
    """The handler of the engine's loggers, in whichever process: named in ENGINE_LOGGING."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setLevel(os.environ.get(LEVEL_VARIABLE, "INFO"))
    context = json.loads(os.environ.get(CONTEXT_VARIABLE, "{}"))
    handler.setFormatter(formatter(os.environ.get(FORMAT_VARIABLE, "json"), context, _secret(os.environ)))
    return handler


def _secret(environ: Mapping[str, str]) -> str:
    """The token; one that is too short is refused, so it opens nothing, and would stand everywhere in a line."""
    token = environ.get(SECRET_VARIABLE, "").strip()
    return token if len(token) >= SHORTEST_TOKEN else ""


def _without_secrets(secret: str) -> Callable[[str], str]:
    """What keeps secrets out of a text."""
    own = [re.compile(re.escape(written)) for written in {secret, json.dumps(secret)[1:-1]} if written]

    def clean(text: str) -> str:
        for pattern in (*own, *_SECRETS):
            text = pattern.sub("***", text)
        return text

    return clean
