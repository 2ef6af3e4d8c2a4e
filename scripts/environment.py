"""The environment of a job that a script starts: the script's own over .env. For a host that has Python and nothing else."""

import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / ".env.example"
LOOP_NAMES = frozenset({"MODEL_IDS", "PARALLEL", "RUNNER", "IMAGE", "MPS"})  # of scripts/generate-all, not of the job

# One assignment as python-dotenv reads it, whose quoted value may have line ends in it; or a line that is none.
_LINE = re.compile(
    r"""\s* (?:export[^\S\r\n]+)? (?: '(?P<quoted_name>[^']+)' | (?P<name>[^=\#\s]+) ) [^\S\r\n]*
    (?: = (?P<gap>[^\S\r\n]*) (?: '(?P<single>(?:\\.|[^'\\])*)' | "(?P<double>(?:\\.|[^"\\])*)" | (?P<plain>(?!['"])[^\r\n]*)))?
    [^\S\r\n]* (?:\#[^\r\n]*)? (?:[\r\n]+|$)
    | \s*[^\r\n]*(?:[\r\n]+|$)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def read(path: Path) -> dict[str, str]:
    """The variables that an env file sets, as python-dotenv reads it; empty ones count as unset, and so does a missing file."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except FileNotFoundError:
        return {}
    lines = _LINE.finditer(text)
    values = {line["quoted_name"] or line["name"]: _value(line) for line in lines if line["quoted_name"] or line["name"]}
    return {name: value for name, value in values.items() if value}


def layered(environ: Mapping[str, str], dotenv: Mapping[str, str], embedded: Mapping[str, str]) -> dict[str, str]:
    """The environment for the job. The embedded default belongs to its model: another MODEL_ID runs without it."""
    ours = known_names() | LOOP_NAMES
    chosen = {**dotenv, **{name: value for name, value in environ.items() if value or name not in ours}}
    return chosen if "MODEL_ID" in chosen else {**embedded, **chosen}


def known_names() -> frozenset[str]:
    """The job's variables, by the file that names each of them once: job/settings.py needs more than a host may have."""
    return frozenset(re.findall(r"^(?:# )?([A-Z_]+)=", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE))


def _value(line: re.Match[str]) -> str:
    if line["single"] is not None:
        return re.sub(r"\\([\\'])", r"\1", line["single"])
    if line["double"] is not None:
        return re.sub(r"""\\([\\'"abfnrtv])""", lambda escape: _ESCAPES.get(escape[1], escape[1]), line["double"])
    plain = line["plain"] or ""
    return "" if line["gap"] and plain.startswith("#") else re.sub(r"\s+#.*", "", plain).rstrip()
