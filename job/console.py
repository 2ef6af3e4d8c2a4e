"""Log events as people read them on a terminal: what they know already is left out, and long lists are cut. Pure.

JSON lines have all of it.
"""

import re
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

_CONTEXT = ("run_id", "model", "shard")
_FIRST = "planned"  # the event that says whose lines these are
_OURS = "job"
_SAID_BEFORE = {  # by events or fields that came before, or is in the message
    "engine_ready": ("canary", "seconds_by_phase"),
    "run_finished": ("answers", "results", "seconds_by_phase"),
}
_UNTOUCHED = frozenset({"timestamp", "level", "event", "exc_info", "exception", "stack", "stack_info"})
_LONGEST = 100  # characters of many values in one; a text, such as a remedy or a prompt, is not cut
NAME_WIDTH = 20  # of an event's name
_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b")
_NOTHING: tuple[object, ...] = (None, "", {}, [], ())

Event = MutableMapping[str, Any]


def for_people(_logger: object, _method: str, event: Event, clean: Callable[[str], str] = str) -> Event:
    """A processor of structlog, before the renderer. The message comes right after the event's name.

    clean: takes secrets out of a text. That is done before it is cut: a part of one would not be known for what it is.
    """
    name = str(event["event"])
    known = () if name == _FIRST else (*_CONTEXT, *_SAID_BEFORE.get(name, ()))
    shown = {key: value if key in _UNTOUCHED else _short(value, clean) for key, value in event.items() if key not in known}
    if str(shown.get("logger", "")).partition(".")[0] == _OURS:
        del shown["logger"]
    if message := event.get("message"):
        del shown["message"]
        shown["event"] = f"{event['event']:<{NAME_WIDTH}} {' '.join(str(message).split())}"
    return {key: value for key, value in shown.items() if value not in _NOTHING or key in _UNTOUCHED}


def _short(value: object, clean: Callable[[str], str]) -> object:
    """A value in a few words."""
    if value in _NOTHING or isinstance(value, bool | int):
        return value
    text = _DIGEST.sub(r"\1…", clean(_words(value)))
    if isinstance(value, str) or len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 1]}…"


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(each)}" for key, each in value.items() if each not in _NOTHING)
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    if isinstance(value, float):
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
    return str(value)
