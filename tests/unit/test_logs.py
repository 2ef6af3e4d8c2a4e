import io
import json
import logging
import logging.config
import warnings
from pathlib import Path
from typing import Any

import pytest
import structlog

from job import logs
from tests.support import TOKEN


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.split("\n")[:-1]]


def _fail() -> None:
    password = "a-local-value"  # must not be in the traceback
    raise RuntimeError(f"with {TOKEN} and {len(password)} letters")


@pytest.mark.parametrize(
    ("wanted", "stream", "found"),
    [
        ("auto", io.StringIO(), "json"),
        ("auto", _Terminal(), "console"),
        ("json", _Terminal(), "json"),
        ("console", io.StringIO(), "console"),
    ],
)
def test_auto_is_console_on_a_terminal_only(wanted: str, stream: io.StringIO, found: str) -> None:
    assert logs.resolve_format(wanted, stream) == found


def test_records_of_both_kinds_have_the_same_shape(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "INFO", {})
    logs.bind({}, run_id="abc", model="m")
    structlog.get_logger("job").warning("something_happened", count=3)
    logging.getLogger("other").warning("happened %d times", 3)
    ours, theirs = _lines(capsys)
    assert ours.pop("timestamp").endswith("Z")
    assert theirs.pop("timestamp").endswith("Z")
    assert ours == {
        "event": "something_happened",
        "level": "warning",
        "logger": "job",
        "run_id": "abc",
        "model": "m",
        "count": 3,
    }
    assert theirs == {"event": "happened 3 times", "level": "warning", "logger": "other", "run_id": "abc", "model": "m"}


def test_a_line_is_one_line_whatever_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "INFO", {})
    structlog.get_logger("job").info("event", text='a\nb"c\u2028\0😀', path=Path("/x"), inner={"a": [1]})
    (line,) = _lines(capsys)
    assert line["text"] == 'a\nb"c\u2028\0😀'
    assert line["inner"] == {"a": [1]}
    assert "/x" in line["path"]


def test_levels_are_ours_for_us_and_warning_for_others(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "INFO", {})
    for logger in (structlog.get_logger("job"), structlog.get_logger("job.hub"), logging.getLogger("other")):
        logger.debug("debug")
        logger.info("info")
        logger.warning("warning")
    assert [(line["logger"], line["event"]) for line in _lines(capsys)] == [
        ("job", "info"),
        ("job", "warning"),
        ("job.hub", "info"),
        ("job.hub", "warning"),
        ("other", "warning"),
    ]


def test_warnings_become_records(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "INFO", {})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning("old thing", DeprecationWarning, "file.py", 7)
    (line,) = _lines(capsys)
    assert line["logger"] == "py.warnings"
    assert "old thing" in line["event"]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_tokens_are_redacted_wherever_they_are(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    logs.configure(log_format, "INFO", {})
    logger = structlog.get_logger("job")
    logger.info(f"event with {TOKEN}", field=f"x{TOKEN}", nested={"list": [TOKEN]}, **{TOKEN: 1})
    logging.getLogger("other").error("header: Bearer %s", TOKEN)
    try:
        _fail()
    except RuntimeError:
        logger.exception("failed")
        logging.getLogger("other").exception("failed")
    out = capsys.readouterr().out
    assert TOKEN not in out
    assert out.count("***") >= 7


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_has_no_local_values(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    logs.configure(log_format, "INFO", {})
    try:
        _fail()
    except RuntimeError:
        structlog.get_logger("job").exception("failed")
        logging.getLogger("other").exception("failed")
    out = capsys.readouterr().out
    assert out.count("RuntimeError: with *** and 13 letters") == 2
    assert out.count("in _fail") == 2
    assert "a-local-value" not in out


def test_a_traceback_is_part_of_its_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "INFO", {})
    try:
        _fail()
    except RuntimeError:
        structlog.get_logger("job").exception("failed")
    (line,) = _lines(capsys)
    assert line["level"] == "error"
    assert line["exception"].startswith("Traceback (most recent call last):")


@pytest.mark.parametrize(
    ("log_format", "level", "engine_level"),
    [
        ("json", "INFO", "INFO"),
        ("json", "WARNING", "WARNING"),
        ("json", "ERROR", "ERROR"),
        ("json", "DEBUG", "INFO"),
        ("console", "INFO", "ERROR"),
        ("console", "DEBUG", "INFO"),
    ],
)
def test_the_engine_gets_its_level_in_the_environment(log_format: str, level: str, engine_level: str) -> None:
    environ: dict[str, str] = {}
    with warnings.catch_warnings():
        logs.configure(log_format, level, environ)
    assert environ["JOB_LOG_ENGINE_LEVEL"] == engine_level
    assert environ["JOB_LOG_FORMAT"] == log_format
    assert environ["VLLM_LOGGING_CONFIG_PATH"] == str(logs.ENGINE_LOGGING)


def test_the_users_own_logging_of_the_engine_is_kept() -> None:
    environ = {"VLLM_LOGGING_CONFIG_PATH": "mine.json"}
    logs.configure("json", "INFO", environ)
    assert environ["VLLM_LOGGING_CONFIG_PATH"] == "mine.json"


def test_the_engines_records_have_the_same_shape(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    environ: dict[str, str] = {}
    logs.configure("json", "INFO", environ)
    logs.bind(environ, run_id="abc")
    structlog.contextvars.clear_contextvars()  # as in a process of the engine's, which has only the environment
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    logging.config.dictConfig(json.loads(Path(environ["VLLM_LOGGING_CONFIG_PATH"]).read_text()))
    try:
        logging.getLogger("vllm.worker").info("loaded %s", TOKEN)
        logging.getLogger("vllm.worker").debug("hidden")
    finally:
        logging.getLogger("vllm").handlers.clear()
    (line,) = _lines(capsys)
    del line["timestamp"]
    assert line == {"event": "loaded ***", "level": "info", "logger": "vllm.worker", "run_id": "abc"}


@pytest.mark.parametrize("token", ["0", "false"])
def test_a_token_that_is_too_short_to_be_one_garbles_no_line(capsys: pytest.CaptureFixture[str], token: str) -> None:
    """It is refused, and the line that says so has to be JSON."""
    logs.configure("json", "INFO", {"HF_TOKEN": token})
    structlog.get_logger("job").info("event", number=0, yes=False)
    (line,) = _lines(capsys)
    assert (line["number"], line["yes"]) == (0, False)


@pytest.mark.parametrize(
    "secret", ["0123456789abcdef" * 4, "a-password-of-nobody", TOKEN], ids=["digits", "no token of the Hub", "a token"]
)
@pytest.mark.parametrize("before", range(60, 101, 10))
def test_of_a_secret_no_part_is_left_where_a_list_is_cut(capsys: pytest.CaptureFixture[str], secret: str, before: int) -> None:
    logs.configure("console", "INFO", {"HF_TOKEN": secret})
    address = "https://somebody:their-password@proxy.example"
    structlog.get_logger("job").info("it_happened", text=secret, many=["x" * before, secret], addresses=["x" * before, address])
    out = capsys.readouterr().out
    assert secret[:6] not in out
    assert "their" not in out
