"""The dataset card, from the manifest: a whole one, or one that is merged into the card that a repository has. Pure.

A repository may hold answers to several splits and configurations, and words that people wrote. So each split has a section
of its own between two markers, and of the metadata only what is about this split is replaced.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import jinja2

from job import canary, markdown, metadata, reproduction
from job.budget import of_manifest
from job.layout import DEFAULT_CONFIG, config_of
from job.lengths import AnswerLengths, of_answers
from job.limits import limits
from job.timing import tokens_per_second, whole_phases

_SECTION = """\
# Answers of {{ name|prose }}

{{ counts.rows }} rows of {{ dataset.name|code }}{% if config %}, configuration {{ config|code }}{% endif %}, split \
{{ split|code }}, answered by {{ name|code }}.
{%- if counts.failed_rows %} {{ counts.failed_rows }} of them have no answer; `finish_reason` says why.{% endif %}

| | |
|---|---|
| rows | {{ counts.rows|count }}, of which {{ counts.failed_rows|count }} failed |
| finish reasons | {{ finish_reasons }} |
| tokens | {{ counts.prompt_tokens|count }} in prompts, {{ counts.completion_tokens|count }} in answers |
{%- if answers.answers %}
| tokens of an answer | median {{ answers.median_tokens|count }}, 95 % have at most \
{{ answers.p95_tokens|count }}, 99 % at most {{ answers.p99_tokens|count }}, the longest {{ answers.longest_tokens|count }} |
| runaways, which the model did not end by itself | {{ answers.told }} |
{%- endif %}
{%- if speed %}
| tokens per second of generation | {{ speed|number }} |
{%- endif %}
{%- if phases %}
| seconds by phase | {{ phases.values()|sum|number }}: {{ phases_told }}\
{% if partly %}; of the process that finished the run{% endif %} |
{%- endif %}
{%- if budget and budget.gpu_seconds %}
| GPU seconds, of {{ processes }} | {{ least }}{{ budget.gpu_seconds|number }}\
{% if budget.tokens_per_gpu_second %}, with {{ budget.tokens_per_gpu_second|number }} answer tokens in each{% endif %} |
{%- if budget.cost is not none %}
| cost | {{ least }}{{ budget.cost }}\
{% if budget.gpu_price_per_hour %}, at {{ "%.10g"|format(budget.gpu_price_per_hour) }} for a GPU and hour{% endif %} |
{%- endif %}
{%- endif %}
{%- if image %}

![{{ alt }}]({{ image }})
{%- endif %}

## What was run

| | |
|---|---|
| model | {{ model.name|code|cell }} at {{ model.commit|code|cell }} |
{%- if adapter %}
| adapter | {{ adapter.name|code|cell }} at {{ adapter.commit|code|cell }} |
{%- endif %}
| dataset | {{ dataset.name|code|cell }} at {{ dataset.commit|code|cell }}\
{% if config %}, configuration {{ config|code|cell }}{% endif %}, split {{ split|code|cell }} |
| prompt | {{ prompt.template }} |
| engine | {{ engine.name|prose }} {{ engine.version|string|prose }}, dtype {{ dtype }}, max_model_len {{ max_model_len }}\
{{ hardware|prose }} |
| reproducibility | {{ reproducibility }}: {{ promise }} |
{%- if canary and canary.judged %}
| canary | {{ canary.differing }} of {{ canary.judged }} fixed prompts got another answer in company than alone, within \
{{ canary.tokens }} tokens: {{ found }} |
{%- endif %}
{%- for name, value in shown %}
| {{ name }} | {{ value|shown|cell }} |
{%- endfor %}
| identity | `{{ identity }}` |
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

answers = load_dataset({{ load_from|literal }}, {% if config %}{{ config|literal }}, {% endif %}split="{{ split }}")
for row in answers:
    print(row[{{ instruction_column|literal }}], row["answers"])
```

`{{ manifest_path }}` has the versions, the hardware, the resolved commits and the checksum of each data file.

## The same answers again

With job {{ versions.job|prose }} and {{ engine.name|prose }} {{ engine.version|string|prose }}{{ hardware|prose }}, in bash:

{{ command }}

`python` is one that has the job's packages: `.venv/bin/python` in the job's repository after `make setup`. Where the answers \
of this run lie in `results` already, add an `OUTPUT_DIR` of your own, or nothing is left to answer. In a container, write \
`docker run --rm {{ gpus }}--shm-size 8g --user "$(id -u):$(id -g)" --volume "$PWD:/results" \
--env HF_TOKEN --entrypoint env answers-job:{{ versions.job }}` in the place of `env`. Private and gated repositories need an \
`HF_TOKEN`. The results are in a folder called `{{ identity[:12] }}`; \
where it has another name, something that changes answers is different.
{%- for need in needs %}

`{{ need.path }}` stands for a local {{ need.what }}, {{ need.name|code }}, which is not on the Hub under this name: its \
content has to have the digest `{{ need.digest }}`.
{%- endfor %}

## What these answers do not tell
{% for sentence in limits %}
- {{ sentence|prose }}
{%- endfor %}
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
    image: str | None = None,
    existing: str | None = None,
    paths: Sequence[str] = (),
) -> str:
    """The text of README.md.

    manifest: as in run.json; dataset_info: features, splits and sizes as `datasets` writes them; load_from: what a reader
    passes to load_dataset; manifest_path, image: where the manifest lies, and the plot of lengths, None without one; existing:
    the card that is there, paths: the files that are.
    Raises: ValueError where the existing card cannot be read, or has another split of this configuration with other columns.
    """
    facts = manifest["identity"]["facts"]
    config, split = config_of(facts["dataset_config"]), facts["dataset_split"]
    front, body = metadata.merged(existing or "", config, split, dataset_info, paths)
    section = _section(manifest, load_from, manifest_path, image)
    return f"---\n{front}---\n{_placed(body, section, config, split)}"


def _section(manifest: Mapping[str, Any], load_from: str, manifest_path: str, image: str | None) -> str:
    facts, counts = manifest["identity"]["facts"], manifest["counts"]
    config = config_of(facts["dataset_config"])
    adapter, record = manifest["adapter"], canary.record_of(manifest["engine"])
    unusual = {name: facts[name] for name, usual in _UNUSUAL.items() if facts.get(name, usual) != usual}
    answers, phases, budget = of_answers(counts), whole_phases(manifest["seconds"]), of_manifest(manifest)
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts["finish_reasons"].items())
    return (
        _environment()
        .from_string(_SECTION)
        .render(
            {name: facts[name] for name in _FACTS},
            name=f"{manifest['model']['name']} with {adapter['name']}" if adapter else manifest["model"]["name"],
            promise=_PROMISES[facts["reproducibility"]],
            hardware=f", on {manifest['engine']['device']}" if "device" in manifest["engine"] else "",
            canary=record,
            found=_FOUND if record and record.differing else _NOTHING_FOUND,
            config=None if config == DEFAULT_CONFIG else config,
            split=facts["dataset_split"],
            identity=manifest["identity"]["digest"],
            counts=counts,
            model=manifest["model"],
            adapter=adapter,
            dataset=manifest["dataset"],
            versions=manifest["versions"],
            gpus="" if manifest["engine"].get("device") == "cpu" else "--gpus all ",
            shown=[(name, value) for name, value in {**unusual, **facts["sampling"]}.items() if value not in (None, [])],
            answers=answers,
            finish_reasons=reasons,
            speed=tokens_per_second(manifest["seconds"], manifest["generated_rows"], counts),
            phases=phases,
            phases_told=", ".join(f"{name} {seconds:,.1f}" for name, seconds in phases.items()),
            partly=budget and budget.processes > manifest.get("shards", 1),
            budget=budget,
            least="" if budget and budget.complete else "at least ",
            processes=f"{budget.processes} process{'' if budget.processes == 1 else 'es'}" if budget else "",
            image=quote(image) if image else None,
            alt=_told(answers, reasons),
            command=markdown.block(reproduction.command(manifest), "bash"),
            needs=reproduction.needs(manifest),
            limits=list(limits(manifest)),
            several=facts["sampling"]["num_samples"] > 1,
            load_from=load_from,
            manifest_path=manifest_path,
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)  # noqa: S701 (Markdown)
    environment.filters |= {
        "code": markdown.code,
        "cell": markdown.in_cell,
        "prose": markdown.prose,
        "count": lambda number: f"{number:,}",
        "number": lambda number: f"{number:,.1f}",
        "literal": lambda text: json.dumps(text, ensure_ascii=False),
        "shown": lambda value: markdown.code(repr(value)) if isinstance(value, str | list | dict) else str(value),
    }
    return environment


def _told(answers: AnswerLengths, reasons: str) -> str:
    """What the plot shows, in words: for whoever does not see it."""
    return (
        f"Histogram of the tokens of {answers.answers:,} answers by finish reason: median {answers.median_tokens:,}, 95 % have "
        f"at most {answers.p95_tokens:,}, the longest {answers.longest_tokens:,}; {reasons}."
    )


def _placed(body: str, section: str, config: str, split: str) -> str:
    """The body with the section in the place of the one that it has for this split, else at its end."""
    begin, end = (f"<!-- answers to {config}/{split}: {where} -->" for where in ("begin", "end"))
    whole = f"{begin}\n{section}{end}"
    if found := _last_between(body, begin, end):
        return f"{body[: found.start()]}{whole}{body[found.end() :]}"
    return f"{body.rstrip()}\n\n{whole}\n".lstrip("\n") if body.strip() else f"\n{whole}\n"


def _last_between(body: str, begin: str, end: str) -> re.Match[str] | None:
    """The first end with the last beginning before it, each a line of its own: a value that holds one is none."""
    first, last = (rf"^{re.escape(mark)}(?=[ \t\r]*$)" for mark in (begin, end))
    return re.search(rf"{first}(?:(?!{first}).)*?{last}", body, re.DOTALL | re.MULTILINE)
