"""How to make the same answers again: the command, from the manifest of a run. Pure.

It names what changes an answer and is not as by default, and nothing else: so it makes the same identity. What others cannot
get by a name, local files, has a path in its place that they have to change.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from job.settings import DataSettings, EngineSettings, ModelSettings, SamplingSettings

TEMPLATE_FILE = "prompt.jinja"
_BOM = "\ufeff"
# The settings that are facts of the identity by their own names. Those of sampling are all of their audience.
_ALIKE = {
    ModelSettings: ("trust_remote_code",),
    DataSettings: ("dataset_config", "dataset_split", "instruction_column", "drop_columns"),
    EngineSettings: (
        "max_model_len",
        "dtype",
        "quantization",
        "kv_cache_dtype",
        "reproducibility",
        "tensor_parallel_size",
        "enforce_eager",
        "compile_model",
        "engine_args",
    ),
}


@dataclass(frozen=True, slots=True)
class Need:
    """Something that cannot be had by its name. path: what stands for it in the command; digest: of its content."""

    path: str
    what: str
    name: str
    digest: str


def command(manifest: Mapping[str, Any]) -> str:
    """For bash: lines that can be copied as they are."""
    prompt = manifest["identity"]["facts"]["prompt"]
    before = f"printf '%s' {_quoted(_written(prompt['text']))} >{TEMPLATE_FILE}\n" if prompt["template"] == "jinja" else ""
    settings = "".join(f"  {name}={_quoted(value)} \\\n" for name, value in variables(manifest).items())
    return f"{before}env \\\n{settings}  python -m job"


def variables(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The environment of the run, as far as it changes answers or which rows there are."""
    facts, counts = manifest["identity"]["facts"], manifest["counts"]
    names = dict(_sources(manifest))
    if facts["engine"]["name"] != "vllm":
        names["ENGINE"] = facts["engine"]["name"]
    names |= _prompt(facts["prompt"])
    for audience, settings in _ALIKE.items():
        names |= _chosen(audience, {name: facts[name] for name in settings if name in facts})
    names |= _chosen(SamplingSettings, facts["sampling"])
    if manifest.get("max_rows"):
        names["MAX_ROWS"] = str(manifest["max_rows"])
    if counts["failed_rows"]:
        names["MAX_FAILED_ROWS"] = str(counts["failed_rows"])
    return names


def needs(manifest: Mapping[str, Any]) -> Sequence[Need]:
    """The local files that the answers were made from."""
    sources = {what: manifest[what] for what in ("model", "adapter", "dataset") if manifest[what]}
    return [
        Need(_path(what, source), what, source["name"], source["commit"]) for what, source in sources.items() if source["local"]
    ]


def _sources(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for prefix, what in (("MODEL", "model"), ("LORA", "adapter"), ("DATASET", "dataset")):
        source = manifest[what]
        if source is None:
            continue
        yield f"{prefix}_ID", _path(what, source) if source["local"] else source["name"]
        if re.fullmatch("[0-9a-f]{40}", source["commit"]):  # the echo engine's model has none
            yield f"{prefix}_REVISION", source["commit"]


def _path(what: str, source: Mapping[str, Any]) -> str:
    """With the ending of the file that it stands for: the job goes by that."""
    ending = re.search(r"\.(parquet|jsonl?|csv)$", source["name"]) if what == "dataset" else None
    return f"./path/of/the/{what}{ending[0] if ending else ''}"


def _prompt(facts: Mapping[str, Any]) -> dict[str, str]:
    if facts["template"] == "jinja":
        return {"PROMPT_TEMPLATE": TEMPLATE_FILE}
    chosen = {"PROMPT_TEMPLATE": facts["template"]} if facts["template"] != "alpaca" else {}
    system = facts.get("system_prompt")
    return chosen | ({"SYSTEM_PROMPT": system} if system is not None else {})


def _written(template: str) -> str:
    """What the file has to hold: a mark of the order of bytes at its beginning is not read as part of it."""
    return f"{_BOM}{template}" if template.startswith(_BOM) else template


def _chosen(audience: Any, values: Mapping[str, Any]) -> dict[str, str]:
    """The settings that are not as by default, as they are written in the environment."""
    defaults = {name: audience.model_fields[name].default for name in values}
    alike = {name: list(default) if isinstance(default, tuple) else default for name, default in defaults.items()}
    return {name.upper(): _text(name, value) for name, value in values.items() if value != alike[name]}


def _text(name: str, value: Any) -> str:
    if name == "drop_columns":
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    """One word of bash, which a Markdown page keeps as it is."""
    if all(letter.isprintable() or letter == "\n" for letter in text):  # else a copy would lose it
        return shlex.quote(text).replace("<!--", "<!''--")  # the mark of a comment would be looked for in a card
    return "$'" + "".join(map(_escaped, text)) + "'"


def _escaped(letter: str) -> str:
    """One letter in $'...'."""
    if letter in "\\'":
        return f"\\{letter}"
    if letter.isascii() and letter.isprintable() and letter not in "<`":
        return letter
    return "".join(f"\\{byte:03o}" for byte in letter.encode())
