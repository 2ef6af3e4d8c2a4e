"""The dataset card, from the manifest: a whole one, or one that is merged into the card that a repository has. Pure.

A repository may hold answers to several splits and configurations, and words that people wrote. So each split has a section
of its own between two markers, and of the metadata only what is about this split is replaced.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from job import canary, metadata
from job.layout import DEFAULT_CONFIG, config_of
from job.lengths import of_answers

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
| engine | {{ engine.name }} {{ engine.version }}, dtype {{ dtype }}, max_model_len {{ max_model_len }}{{ hardware }} |
| reproducibility | {{ reproducibility }}: {{ promise }} |
{%- if canary and canary.judged %}
| canary | {{ canary.differing }} of {{ canary.judged }} fixed prompts got another answer in company than alone, within \
{{ canary.tokens }} tokens: {{ found }} |
{%- endif %}
{%- for name, value in shown %}
| {{ name }} | {{ value }} |
{%- endfor %}
| identity | `{{ identity }}` |

Answers by finish_reason: {{ finish_reasons }}.
Tokens: {{ counts.prompt_tokens }} in prompts, {{ counts.completion_tokens }} in answers.
{%- if answers.answers %}
Tokens of an answer: median {{ answers.median_tokens }}, 95 % have at most {{ answers.p95_tokens }}, 99 % at most \
{{ answers.p99_tokens }}, the longest {{ answers.longest_tokens }}.
Runaways, which the model did not end by itself: {{ answers.told }}.
{%- endif %}
{%- if trust_remote_code %}

Python code that comes with the model, or that ENGINE_ARGS names, was allowed to run (TRUST_REMOTE_CODE).
{%- endif %}

## Columns

The source columns, untouched and in the source's order of rows, then:

| column | content |
|---|---|
| `prompt` | the text that the model was given |
| `answers` | the model's answer, as generated; null where the row failed |
| `finish_reason` | `stop`: ended by the model; `length`: cut at max_tokens or max_model_len; `repetition`: ended because it \
looped; `too_long`: no room after the prompt; `error` |
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
_PROMISES = {
    "seeded": "each row has its own seed; which rows are answered at the same time may change a rounding, so that a repeated "
    "run agrees in most answers and not in all",
    "bitwise": "the same answers byte for byte, however the rows are batched, ordered, interrupted or divided into shards; on "
    "the same hardware, with the same versions",
}
_NOTHING_FOUND = "no sign that answers to rows depend on each other's company, and no proof that they do not"
_FOUND = "so do some answers to rows, and long ones more often: a repeated run differs in those"
# How the model was run, where it is not as usual.
_UNUSUAL = {
    "quantization": None,
    "kv_cache_dtype": "auto",
    "tensor_parallel_size": 1,
    "enforce_eager": False,
    "compile_model": None,
}
_FACTS = ("reproducibility", "prompt", "engine", "dtype", "max_model_len", "trust_remote_code", "instruction_column")


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
    front, body = metadata.merged(existing or "", config, split, dataset_info, paths)
    section = _section(manifest, load_from, manifest_path)
    return f"---\n{front}---\n{_placed(body, section, config, split)}"


def _section(manifest: Mapping[str, Any], load_from: str, manifest_path: str) -> str:
    facts = manifest["identity"]["facts"]
    config = config_of(facts["dataset_config"])
    adapter, record = manifest["adapter"], canary.record_of(manifest["engine"])
    unusual = {name: facts[name] for name, usual in _UNUSUAL.items() if facts.get(name, usual) != usual}
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)  # noqa: S701 (Markdown)
    return environment.from_string(_SECTION).render(
        {name: facts[name] for name in _FACTS},
        name=f"{manifest['model']['name']} with {adapter['name']}" if adapter else manifest["model"]["name"],
        promise=_PROMISES[facts["reproducibility"]],
        hardware=f", on {manifest['engine']['device']}" if "device" in manifest["engine"] else "",
        canary=record,
        found=_FOUND if record and record.differing else _NOTHING_FOUND,
        config=None if config == DEFAULT_CONFIG else config,
        split=facts["dataset_split"],
        identity=manifest["identity"]["digest"],
        counts=manifest["counts"],
        model=manifest["model"],
        adapter=adapter,
        dataset=manifest["dataset"],
        shown=[(name, _shown(value)) for name, value in {**unusual, **facts["sampling"]}.items() if value not in (None, [])],
        answers=of_answers(manifest["counts"]),
        finish_reasons=", ".join(f"{reason} {count}" for reason, count in manifest["counts"]["finish_reasons"].items()),
        several=facts["sampling"]["num_samples"] > 1,
        load_from=load_from,
        manifest_path=manifest_path,
    )


def _shown(value: object) -> str:
    """A value in a table cell: bars would end the cell."""
    return f"`{value!r}`".replace("|", "\\|") if isinstance(value, str | list | dict) else str(value)


def _placed(body: str, section: str, config: str, split: str) -> str:
    """The body with the section in the place of the one that it has for this split, else at its end."""
    begin, end = (f"<!-- answers to {config}/{split}: {where} -->" for where in ("begin", "end"))
    whole = f"{begin}\n{section}{end}"
    until_end, ended, after = body.partition(end)
    before, found, _ = until_end.rpartition(begin)
    if found and ended:
        return f"{before}{whole}{after}"
    return f"{body.rstrip()}\n\n{whole}\n".lstrip("\n") if body.strip() else f"\n{whole}\n"
