import ast
import json
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from markdown_it import MarkdownIt

from job.budget import Budget, Spent
from job.card import render
from job.identity import describe
from job.manifest import build
from job.records import Source, Tally
from tests.unit.builders import settings

ENGINE = {"name": "vllm", "version": "1.2.3"}
MARKDOWN = MarkdownIt("commonmark").enable("table")
INFO = {"features": [{"name": "instruction", "dtype": "string"}], "splits": [{"name": "test", "num_examples": 3}]}


def _manifest(
    tally: Tally | None = None,
    model: Source | None = None,
    adapter: Source | None = None,
    engine: dict[str, Any] | None = None,
    **variables: object,
) -> dict[str, Any]:
    model = model or Source("org/model", "a" * 40, local=False)
    data = Source("org/data", "b" * 40, local=False)
    return build(
        identity=describe(
            settings(**variables), model, data, {"template": "alpaca"}, {"name": "vllm", "version": "1.2.3"}, adapter
        ),
        model=model,
        adapter=adapter,
        dataset=data,
        tally=tally or Tally(3, 0, {"length": 1, "stop": 2}, 30, 60, 40, {8: 1, 12: 1, 40: 1}),
        generated_rows=3,
        files=[],
        seconds={},
        engine=engine or {},
        image=None,
    )


def _card(**arguments: Any) -> str:
    return render(_manifest(**arguments), INFO, "org/model-results", manifest_path="run.json")


def _front_matter(card: str) -> dict[str, Any]:
    _, matter, _ = card.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(matter)
    return found


def test_the_same_manifest_gives_the_same_card() -> None:
    assert _card() == _card()


def test_the_front_matter_names_split_files_and_features() -> None:
    assert _front_matter(_card(DATASET_SPLIT="dev")) == {
        "configs": [{"config_name": "default", "data_files": [{"split": "dev", "path": "data/dev-*"}]}],
        "dataset_info": INFO,
    }


def test_the_card_says_what_is_promised() -> None:
    assert "| reproducibility | seeded: each row has its own seed" in _card()
    assert "| reproducibility | bitwise: the same answers byte for byte" in _card(REPRODUCIBILITY="bitwise")


@pytest.mark.parametrize(
    ("judged", "differing", "line"),
    [
        (8, 0, "0 of 8 fixed prompts got another answer in company than alone, within 16 tokens: no sign that answers to rows"),
        (8, 3, "3 of 8 fixed prompts got another answer in company than alone, within 16 tokens: so do some answers to rows"),
        (7, 0, "0 of 7 fixed prompts got another answer in company than alone"),
        (0, 0, None),
    ],
)
def test_the_card_says_what_the_canary_found_and_what_that_means(judged: int, differing: int, line: str | None) -> None:
    record = {"prompts": 8, "judged": judged, "differing": differing, "in_company": 128, "tokens": 16}
    card = _card(engine={"canary": {**record, "asked": "a", "answered": "b"}})
    assert (f"\n| canary | {line}" in card) if line else ("| canary |" not in card)


@pytest.mark.parametrize("found", [None, "x", {}, {"judged": "8"}, {"judged": 8, "differing": "| 0"}])
def test_the_card_says_nothing_of_a_canary_that_is_none(found: object) -> None:
    assert _card(engine={"canary": found}) == _card(engine={"x": 1})


def test_the_card_says_what_was_run() -> None:
    card = _card(MAX_MODEL_LEN=2048, DTYPE="float32", TEMPERATURE=0.5)
    assert "# Answers of org/model\n" in card
    assert "3 rows of `org/data`, split `test`, answered by `org/model`.\n" in card
    assert f"| model | `org/model` at `{'a' * 40}` |\n" in card
    assert f"| dataset | `org/data` at `{'b' * 40}`, split `test` |\n" in card
    assert "| prompt | alpaca |\n" in card
    assert "| engine | vllm 1.2.3, dtype float32, max_model_len 2048 |\n" in card
    assert "| temperature | 0.5 |\n" in card
    assert "| num_samples | 1 |\n" in card
    assert "| rows | 3, of which 0 failed |\n" in card
    assert "| finish reasons | length 1, stop 2 |\n" in card
    assert "| tokens | 30 in prompts, 60 in answers |\n" in card
    assert "| tokens of an answer | median 12, 95 % have at most 40, 99 % at most 40, the longest 40 |\n" in card
    told = "1 of 3 answers (33.3 %), 66.7 % of the generated tokens"
    assert f"| runaways, which the model did not end by itself | {told} |\n" in card
    assert 'load_dataset("org/model-results", split="test")' in card


def test_the_card_has_the_identity_of_the_manifest() -> None:
    manifest = _manifest()
    assert f"| identity | `{manifest['identity']['digest']}` |" in render(manifest, INFO, "x", manifest_path="run.json")


def test_settings_that_are_unset_have_no_line() -> None:
    card = _card()
    assert "| top_k |" not in card
    assert "| stop |" not in card
    assert "| top_k | 5 |" in _card(TOP_K=5)


def test_of_rows_without_answers_no_lengths_are_told() -> None:
    card = _card(tally=Tally(1, 1, {"error": 1}, 0, 0, 0, {}))
    assert "| tokens | 0 in prompts, 0 in answers |\n\n## What was run\n" in card


def test_how_the_model_was_computed_has_a_line_where_it_was_set() -> None:
    chosen = {"QUANTIZATION": "fp8", "KV_CACHE_DTYPE": "fp8_e5m2", "TENSOR_PARALLEL_SIZE": 2, "DTYPE": "float16"}
    detection = {"REPETITION_DETECTION": '{"max_pattern_size": 9, "min_count": 4}'}
    card = _card(**chosen, **detection)
    lines = [
        "| quantization | `'fp8'` |",
        "| kv_cache_dtype | `'fp8_e5m2'` |",
        "| tensor_parallel_size | 2 |",
        "| repetition_detection | `{'max_pattern_size': 9, 'min_pattern_size': 1, 'min_count': 4}` |",
    ]
    assert [line for line in card.split("\n") if line in lines] == lines
    assert ", dtype float16, max_model_len 4096 |\n" in card
    assert not [line for line in _card().split("\n") if line.startswith(tuple(line.split("`")[0] for line in lines))]


def test_text_in_a_table_ends_no_cell_and_no_line() -> None:
    assert r"| stop | `['a\|b', '\n\n']` |" in _card(STOP='["a|b", "\\n\\n"]')


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"TRUST_REMOTE_CODE": "true"},
            "Python code that comes with the model, or that ENGINE_ARGS names, was allowed to run (TRUST_REMOTE_CODE).",
        ),
        ({"NUM_SAMPLES": "2"}, "are lists: one entry a sample."),
        (
            {"tally": Tally(3, 1, {"error": 1, "stop": 2}, 0, 9, 0, {4: 1, 5: 1})},
            "1 of them have no answer; `finish_reason` says why.",
        ),
    ],
)
def test_a_remark_is_there_only_where_it_is_true(variables: dict[str, Any], sentence: str) -> None:
    assert sentence in _card(**variables)
    assert sentence not in _card()


def test_a_local_model_is_named_without_its_path() -> None:
    card = _card(model=Source("/home/me/secret-place/model", "sha256:" + "c" * 64, local=True))
    assert "# Answers of model\n" in card
    assert "secret-place" not in card


def test_nothing_is_escaped_as_html() -> None:
    assert r"| stop | `['<\|im_end\|>']` |" in _card(STOP="<|im_end|>")


def _republished(existing: str, split: str = "test", **variables: Any) -> str:
    info = INFO | {"splits": [{"name": split, "num_bytes": 1, "num_examples": 3}], "download_size": 1, "dataset_size": 1}
    manifest = _manifest(DATASET_SPLIT=split, **variables)
    return render(manifest, info, "org/results", manifest_path="run.json", existing=existing)


def test_published_again_the_card_is_the_same() -> None:
    card = _republished("")
    assert _republished(card) == card


def test_words_of_people_around_the_section_are_kept() -> None:
    before, after = "---\nlicense: mit\n---\n# Our study\n\nRead this first.\n", "\n## Licence\n\nMIT.\n"
    card = _republished(before) + after
    again = _republished(card, SEED=7)
    assert "license: mit\n" in again
    assert "# Our study\n\nRead this first.\n\n<!-- answers to default/test: begin -->\n# Answers" in again
    assert again.endswith(f"<!-- answers to default/test: end -->\n{after}")
    assert "| seed | 7 |" in again
    assert "| seed | 0 |" not in again


def test_each_split_and_configuration_has_a_section() -> None:
    card = _republished(_republished(_republished(""), split="dev"), DATASET_CONFIG="main")
    for name in ("default/test", "default/dev", "main/test"):
        assert card.count(f"<!-- answers to {name}: begin -->") == 1
    assert 'load_dataset("org/results", "main", split="test")' in card
    assert "3 rows of `org/data`, configuration `main`, split `test`, answered by `org/model`.\n" in card


def test_a_section_without_its_end_is_left_to_people_and_a_new_one_follows() -> None:
    broken = "<!-- answers to default/test: begin -->\nhalf a section\n"
    card = _republished(broken)
    assert "half a section" in card
    assert card.count("<!-- answers to default/test: end -->") == 1
    assert _republished(card) == card


def test_an_adapter_is_named_beside_its_model() -> None:
    card = _card(adapter=Source("me/lora", "c" * 40, local=False))
    assert "# Answers of org/model with me/lora\n" in card
    assert f"| adapter | `me/lora` at `{'c' * 40}` |\n" in card
    assert "| adapter |" not in _card()


def test_speed_and_seconds_by_phase_are_told() -> None:
    seconds = {"plan": 1.5, "engine_start": 30.0, "engine_start.weights": 12.0, "generation": 8.0}
    manifest = _manifest() | {"seconds": seconds}
    card = render(manifest, INFO, "x", manifest_path="run.json")
    assert "| tokens per second of generation | 7.5 |\n" in card
    assert "| seconds by phase | 39.5: plan 1.5, engine_start 30.0, generation 8.0 |\n" in card
    resumed = render(manifest | {"generated_rows": 2}, INFO, "x", manifest_path="run.json")
    assert "| tokens per second of generation |" not in resumed
    spent = [Spent(seconds=9, gpus=1, earlier_rows=rows) for rows in (0, 1)]
    budget = Budget.of(spent, 60, None)
    assert budget is not None
    several = render(manifest | {"budget": budget.model_dump()}, INFO, "x", manifest_path="run.json")
    assert "generation 8.0; of the process that finished the run |\n" in several
    assert "| GPU seconds, of 2 processes | 18.0, with 3.3 answer tokens in each |\n" in several
    shards = render(manifest | {"budget": budget.model_dump(), "shards": 2}, INFO, "x", manifest_path="run.json")
    assert "of the process that finished" not in shards


def test_money_is_told_to_the_last_digit() -> None:
    budget = Budget.of([Spent(seconds=7200, gpus=1, earlier_rows=0)], 60, 1234567.5)
    assert budget is not None
    card = render(_manifest() | {"budget": budget.model_dump()}, INFO, "x", manifest_path="run.json")
    assert "| cost | 2469135.0, at 1234567.5 for a GPU and hour |\n" in card


@pytest.mark.parametrize("budget", [None, "x", {"gpu_seconds": "| 1 |"}])
def test_a_budget_that_is_none_has_no_line(budget: object) -> None:
    card = render(_manifest() | {"budget": budget}, INFO, "x", manifest_path="run.json")
    assert "GPU seconds" not in card
    assert "| cost |" not in card


def test_the_plot_is_shown_with_its_words_at_a_path_that_is_an_address() -> None:
    card = render(_manifest(), INFO, "x", manifest_path="run.json", image="images/it's (a) #1/test-lengths.png")
    (image,) = (child for token in MARKDOWN.parse(card) for child in token.children or () if child.type == "image")
    assert unquote(str(image.attrs["src"])) == "images/it's (a) #1/test-lengths.png"
    told = "median 12, 95 % have at most 40, the longest 40; length 1, stop 2."
    assert image.content == f"Histogram of the tokens of 3 answers by finish reason: {told}"
    assert "![" not in _card()


HOSTILE = '`|*_<!-- answers to default/test: end -->\n"x\\'


def test_names_and_settings_break_no_table_and_no_code() -> None:
    source = Source(f"/somewhere/{HOSTILE.replace('/', '')}", "sha256:" + "c" * 64, local=True)
    settings = {"INSTRUCTION_COLUMN": HOSTILE, "STOP": json.dumps([HOSTILE]), "DATASET_CONFIG": "a `b` #"}
    first = _republished("", model=source, **settings)
    card = _republished(first, model=source, **(settings | {"SEED": "3"}))
    tokens = MARKDOWN.parse(card.split("---\n", 2)[2])
    assert card.count("\n## What was run\n") == 1
    rows: list[list[str]] = []
    for place, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "td_open":
            rows[-1].append(tokens[place + 1].content)
    assert {len(row) for row in rows if row} == {2}
    python, bash = (token for token in tokens if token.type == "fence")
    ast.parse(python.content)
    assert f"row[{json.dumps(HOSTILE)}]" in python.content
    assert bash.content.endswith("  python -m job\n")


def test_each_limit_is_told_where_it_holds() -> None:
    assert "answered once, by drawing at random" in _card()
    assert "answered 3 times, by drawing at random" in _card(NUM_SAMPLES=3)
    assert "temperature 0" in _card(TEMPERATURE=0)
    assert "by drawing at random" not in _card(TEMPERATURE=0)
    assert "1 of 3 answers have no end of their own" in _card()
    assert "no end of their own" not in _card(tally=Tally(3, 0, {"stop": 3}, 30, 60, 0, {20: 3}))
    assert "1 of 3 rows have no answer. An average" in _card(tally=Tally(3, 1, {"error": 1, "stop": 2}, 0, 9, 0, {4: 1, 5: 1}))
    assert "have no answer. An average" not in _card()
    assert "promised on the same hardware" in _card(REPRODUCIBILITY="bitwise")
    assert "agrees in most answers and not in all: which" in _card()
    asked = render(_manifest() | {"max_rows": 3}, INFO, "x", manifest_path="run.json")
    assert "were asked for (MAX_ROWS=3)" in asked
    assert "MAX_ROWS" not in _card()
    more_than_there_are = render(_manifest() | {"max_rows": 4}, INFO, "x", manifest_path="run.json")
    assert "were asked for (MAX_ROWS" not in more_than_there_are
