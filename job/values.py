"""How the text of a variable becomes a value. Each function refuses with a ValueError that says what is wrong with it."""

import json
import re
from typing import Any

_DEEPEST = 100  # levels of a JSON value; pydantic writes 255 of them, and Python reads a thousand
LONGEST_NAME = 200  # bytes of a folder; most file systems allow 255, and parts are added to a name
_REPETITION_LEAST = {"max_pattern_size": 1, "min_pattern_size": 1, "min_count": 2}
SHORTEST_TOKEN = 6  # the log replaces a token wherever it stands: `0` or `false` would garble every line


def words(value: object) -> object:
    """Names separated by commas or spaces, as in a shell variable."""
    return tuple(re.findall(r"[^,\s]+", value)) if isinstance(value, str) else value


def stop_sequences(value: object) -> object:
    """A JSON list of strings, or the text itself as the only stop sequence."""
    if not isinstance(value, str):
        return value
    stops = _parsed(value) if value.lstrip().startswith("[") else [value]
    if "" in stops:
        raise ValueError("holds an empty string, which would end every answer at once")
    return tuple(stops)


def split_name(value: str) -> str:
    if not re.fullmatch(r"\w+(\.\w+)*", value) or not is_folder_name(value):
        raise ValueError("is not the name of a split; for the first rows of a split use MAX_ROWS")
    return value


def config_name(value: str) -> str:
    """The name of a configuration; its results lie in a folder of this name."""
    if value.startswith(".") or not is_folder_name(value) or re.search(r'[<>:"\\|?*]', value):
        raise ValueError("is not the name of a configuration")
    return value


def is_folder_name(name: str) -> bool:
    """Whether a folder of this name lies in the one that it is made in, and can be shown as it is."""
    return name not in ("", ".", "..") and "/" not in name and name.isprintable() and len(name.encode()) <= LONGEST_NAME


def access_token(value: object) -> object:
    """The token without the line end that it has when it comes from a file."""
    token = value.strip() if isinstance(value, str) else value
    if isinstance(token, str) and not re.fullmatch(r"[!-~]+", token):
        raise ValueError("holds a space or a character that no access token has")
    if isinstance(token, str) and len(token) < SHORTEST_TOKEN:
        raise ValueError("is too short for an access token")
    return token


def json_object(value: object) -> object:
    return _parsed(value) if isinstance(value, str) else value


def repetition(value: object) -> object:
    """When an answer counts as a loop, as a JSON object of whole numbers; what may be left out is put in."""
    if not isinstance(value, str):
        return value
    found = _parsed(value)
    if not isinstance(found, dict):
        raise ValueError("is no JSON object")
    if unknown := sorted(found.keys() - _REPETITION_LEAST):
        raise ValueError(f"knows no {', '.join(unknown)}, but {', '.join(_REPETITION_LEAST)}")
    whole = {"min_pattern_size": 1, **found}
    for name, least in _REPETITION_LEAST.items():
        if type(whole.get(name)) is not int or whole[name] < least:
            raise ValueError(f"needs {name}, a whole number of at least {least}")
    if whole["min_pattern_size"] > whole["max_pattern_size"]:
        raise ValueError("has a min_pattern_size above its max_pattern_size, so that nothing would be looked for")
    return {name: whole[name] for name in _REPETITION_LEAST}


def address(value: str) -> str:
    """The address of a web server."""
    if not re.match(r"https?://[^/]", value):
        raise ValueError("is no address: it begins with https:// or http://")
    return value


def hub_name(value: str) -> str:
    """The name of a user, organisation or repository, by the Hub's rules."""
    if not re.fullmatch(r"(?!.*(--|\.\.))[A-Za-z0-9_]([\w.-]{0,94}[A-Za-z0-9_])?", value, re.ASCII):
        raise ValueError(
            "is not a valid Hub name: 1 to 96 letters, digits, `_`, `-` or `.`; no `-` or `.` at either end or twice in a row"
        )
    return value


def repo_id(value: str) -> str:
    """`namespace/name` on the Hub."""
    if value.count("/") != 1:
        raise ValueError("is not of the form namespace/name")
    for part in value.split("/"):
        hub_name(part)
    return value


def _parsed(text: str) -> Any:
    """The value of a JSON text; NaN, infinities and lone surrogates, which others could not read back, are refused."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        too_deep = _levels(value) > _DEEPEST
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    if too_deep:
        raise ValueError("is nested too deeply")
    return value


def _levels(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_levels, inner), default=0)
