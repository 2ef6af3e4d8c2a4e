"""The dataset card, from the manifest: a whole one, or one that is merged into the card that a repository has. Pure.

A repository may hold answers to several splits and configurations, and words that people wrote. So each split has a section
of its own between two markers, and of the metadata only what is about this split is replaced.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import yaml

from job.layout import DEFAULT_CONFIG, config_of, data_pattern

_SECTION = """\
# Answers of {{ name }}

{{ counts.rows }} rows of `{{ dataset.name }}`{% if config %}, configuration `{{ config }}`{% endif %}, split `{{ split }}`, \
answered by `{{ name }}`.
{%- if counts.failed_rows %} {{ counts.failed_rows }} of them have no answer; `finish_reason` says why.{% endif %}

| | |
|---|---|
| model | `{{ model.name }}` at `{{ model.commit }}` |
{%- if adapter %}
| adapter | `{{ adapter.name }}` at `{{ adapter.commit }}` |
{%- endif %}
| dataset | `{{ dataset.name }}` at `{{ dataset.commit }}`{% if config %}, configuration `{{ config }}`{% endif %}, \
split `{{ split }}` |
| prompt | {{ prompt.template }} |
| engine | {{ engine.name }} {{ engine.version }}, dtype {{ dtype }}, max_model_len {{ max_model_len }} |
{%- for name, value in sampling_shown %}
| {{ name }} | {{ value }} |
{%- endfor %}
| identity | `{{ identity }}` |

Answers by finish_reason: {{ finish_reasons }}.
Tokens: {{ counts.prompt_tokens }} in prompts, {{ counts.completion_tokens }} in answers.
{%- if trust_remote_code %}

The model's own Python code was run (TRUST_REMOTE_CODE).
{%- endif %}

## Columns

The source columns, untouched and in the source's order of rows, then:

| column | content |
|---|---|
| `prompt` | the text that the model was given |
| `answers` | the model's answer, as generated; null where the row failed |
| `finish_reason` | `stop`: ended by the model; `length`: by max_tokens; `too_long`: no room after the prompt; `error` |
| `prompt_tokens`, `completion_tokens` | tokens of the prompt and of the answer |
| `seed` | the row's own seed: 63 bits of SHA-256 of "seed:position:sample" |
{%- if several %}

`answers`, `finish_reason`, `completion_tokens` and `seed` are lists: one entry a sample.
{%- endif %}

```python
from datasets import load_dataset

answers = load_dataset("{{ load_from }}", {% if config %}"{{ config }}", {% endif %}split="{{ split }}")
for row in answers:
    print(row["{{ instruction_column }}"], row["answers"])
```

`{{ manifest_path }}` has the versions, the hardware, the resolved commits and the checksum of each file.
"""
# What `datasets` takes for a split where a card names no files.
_UNNAMED_DATA = re.compile(r"data/(\w+)-\d{5}-of-\d{5}[^/]*\.parquet")

_FACTS = ("prompt", "engine", "dtype", "max_model_len", "trust_remote_code", "instruction_column")

Metadata = dict[str, Any]


def render(
    manifest: Mapping[str, Any],
    dataset_info: Mapping[str, Any],
    load_from: str,
    *,
    manifest_path: str,
    existing: str | None = None,
    paths: Sequence[str] = (),
) -> str:
    """The text of README.md.

    manifest: as in run.json; dataset_info: features, splits and sizes as `datasets` writes them; load_from: what a reader
    passes to load_dataset; manifest_path: where the manifest lies; existing: the card that is there, paths: the files that are.
    Raises: ValueError where the existing card cannot be read, or has another split of this configuration with other columns.
    """
    facts = manifest["identity"]["facts"]
    config, split = config_of(facts["dataset_config"]), facts["dataset_split"]
    metadata, body = _parsed(existing or "")
    metadata["configs"] = _configs(metadata.get("configs"), config, split, paths)
    metadata["dataset_info"] = _infos(metadata.get("dataset_info"), config, split, dataset_info)
    front = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    section = _section(manifest, load_from, manifest_path)
    return f"---\n{front}---\n{_placed(body, section, config, split)}"


def _section(manifest: Mapping[str, Any], load_from: str, manifest_path: str) -> str:
    facts = manifest["identity"]["facts"]
    config = config_of(facts["dataset_config"])
    adapter = manifest["adapter"]
    # Markdown is no HTML: nothing is to be escaped.
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701
    return environment.from_string(_SECTION).render(
        {name: facts[name] for name in _FACTS},
        name=f"{manifest['model']['name']} with {adapter['name']}" if adapter else manifest["model"]["name"],
        config=None if config == DEFAULT_CONFIG else config,
        split=facts["dataset_split"],
        identity=manifest["identity"]["digest"],
        counts=manifest["counts"],
        model=manifest["model"],
        adapter=adapter,
        dataset=manifest["dataset"],
        sampling_shown=[(name, _shown(value)) for name, value in facts["sampling"].items() if value not in (None, [])],
        finish_reasons=", ".join(f"{reason} {count}" for reason, count in manifest["counts"]["finish_reasons"].items()),
        several=facts["sampling"]["num_samples"] > 1,
        load_from=load_from,
        manifest_path=manifest_path,
    )


def _shown(value: object) -> str:
    """A value in a table cell: bars would end the cell."""
    return f"`{value!r}`".replace("|", "\\|") if isinstance(value, str | list) else str(value)


def _parsed(card: str) -> tuple[Metadata, str]:
    """The metadata at the top of a card, and the text below it."""
    found = re.match(r"\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?$\n?", card, re.DOTALL | re.MULTILINE)
    if not found:
        return {}, card
    try:
        metadata = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        raise ValueError(f"the metadata at the top of its README.md is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(metadata, dict | None):
        raise ValueError("the metadata at the top of its README.md is no mapping")
    return metadata or {}, card[found.end() :]


def _placed(body: str, section: str, config: str, split: str) -> str:
    """The body with the section in the place of the one that it has for this split, else at its end."""
    begin, end = (f"<!-- answers to {config}/{split}: {where} -->" for where in ("begin", "end"))
    whole = f"{begin}\n{section}{end}"
    before, found, rest = body.partition(begin)
    _, ended, after = rest.partition(end)
    if found and ended:
        return f"{before}{whole}{after}"
    return f"{body.rstrip()}\n\n{whole}\n".lstrip("\n") if body.strip() else f"\n{whole}\n"


def _configs(existing: Any, config: str, split: str, paths: Sequence[str]) -> list[Metadata]:
    """The `configs` of a card, with the files of this split."""
    configs: list[Metadata] = [dict(each) for each in existing or _unnamed(paths)]
    ours = next((each for each in configs if each.get("config_name", DEFAULT_CONFIG) == config), None)
    if ours is None:
        ours = {"config_name": config}
        configs.append(ours)
    entry = {"split": split, "path": data_pattern(config, split)}
    ours["data_files"] = _replaced(_data_files(ours.get("data_files")), "split", entry)
    return configs


def _unnamed(paths: Sequence[str]) -> list[Metadata]:
    """What a card without `configs` means by the files that are there."""
    splits = dict.fromkeys(found[1] for path in sorted(paths) if (found := _UNNAMED_DATA.fullmatch(path)))
    files = [{"split": split, "path": data_pattern(DEFAULT_CONFIG, split)} for split in splits]
    return [{"config_name": DEFAULT_CONFIG, "data_files": files}] if files else []


def _data_files(existing: Any) -> list[Metadata]:
    """The forms that `datasets` allows, as one: a list of splits and paths."""
    if not existing:
        return []
    if isinstance(existing, dict):
        return [{"split": split, "path": path} for split, path in existing.items()]
    if isinstance(existing, list) and all(isinstance(each, dict) for each in existing):
        return existing
    return [{"split": "train", "path": existing}]


def _infos(existing: Any, config: str, split: str, ours: Mapping[str, Any]) -> Any:
    """The `dataset_info` of a card, with this split: one mapping where there is one configuration, else a list."""
    infos: list[Metadata] = [
        dict(each) for each in (existing if isinstance(existing, list) else [existing] if existing else [])
    ]
    old = next((each for each in infos if each.get("config_name", DEFAULT_CONFIG) == config), None)
    new = {"config_name": config, **ours} if config != DEFAULT_CONFIG else dict(ours)
    others = [each for each in (old or {}).get("splits", []) if each["name"] != split]
    if others and old is not None:
        if old.get("features") != ours["features"]:
            names = ", ".join(each["name"] for each in others)
            raise ValueError(f"its split {names} has other columns than this run's {split}, and a configuration has one set")
        new["splits"] = _replaced(old["splits"], "name", ours["splits"][0])
        new["dataset_size"] = sum(each["num_bytes"] for each in new["splits"])
        new.pop("download_size")  # is not known by split
    if old is None:
        infos.append(new)
    else:
        infos[infos.index(old)] = new
    return infos[0] if len(infos) == 1 else [{"config_name": DEFAULT_CONFIG, **each} for each in infos]


def _replaced(entries: Sequence[Metadata], key: str, entry: Metadata) -> list[Metadata]:
    """The entries with this one in the place of the one of the same name, else at the end."""
    if any(each.get(key) == entry[key] for each in entries):
        return [entry if each.get(key) == entry[key] else each for each in entries]
    return [*entries, entry]
