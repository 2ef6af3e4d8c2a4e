"""The dataset card of a results folder, from its manifest. Pure: the same manifest gives the same text."""

from collections.abc import Mapping
from typing import Any

import jinja2
import yaml

_TEMPLATE = """\
---
{{ front_matter }}---

# Answers of {{ model.name }}

{{ counts.rows }} rows of `{{ dataset.name }}`, split `{{ split }}`, answered by `{{ model.name }}`.
{%- if counts.failed_rows %} {{ counts.failed_rows }} of them have no answer; `finish_reason` says why.{% endif %}

| | |
|---|---|
| model | `{{ model.name }}` at `{{ model.commit }}` |
| dataset | `{{ dataset.name }}` at `{{ dataset.commit }}`, split `{{ split }}` |
| prompt | {{ prompt.template }} |
| engine | {{ engine.name }} {{ engine.version }}, dtype {{ dtype }}, max_model_len {{ max_model_len }} |
{%- for name, value in sampling %}
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

answers = load_dataset("{{ load_from }}", split="{{ split }}")
```

`run.json` has the versions, the hardware, the resolved commits and the checksum of each file.
"""


def render(manifest: Mapping[str, Any], dataset_info: Mapping[str, Any], load_from: str) -> str:
    """The text of README.md.

    manifest: as in run.json; dataset_info: features, splits and sizes as `datasets` writes them; load_from: what a reader
    passes to load_dataset.
    """
    facts = manifest["identity"]["facts"]
    split = facts["dataset_split"]
    # Markdown is no HTML: nothing is to be escaped.
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701
    return environment.from_string(_TEMPLATE).render(
        facts,
        front_matter=yaml.safe_dump(_front_matter(split, dataset_info), sort_keys=False, allow_unicode=True),
        identity=manifest["identity"]["digest"],
        counts=manifest["counts"],
        model=manifest["model"],
        dataset=manifest["dataset"],
        split=split,
        sampling=[(name, _shown(value)) for name, value in facts["sampling"].items() if value not in (None, [])],
        finish_reasons=", ".join(f"{reason} {count}" for reason, count in manifest["counts"]["finish_reasons"].items()),
        several=facts["sampling"]["num_samples"] > 1,
        load_from=load_from,
    )


def _front_matter(split: str, dataset_info: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "configs": [{"config_name": "default", "data_files": [{"split": split, "path": f"data/{split}-*"}]}],
        "dataset_info": dict(dataset_info),
    }


def _shown(value: object) -> str:
    """A value in a table cell: bars would end the cell."""
    return f"`{value!r}`".replace("|", "\\|") if isinstance(value, str | list) else str(value)
