from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from jinja2.exceptions import SecurityError

from job.errors import SettingsError
from job.prompts import ALPACA, BATCH_ROWS, AlpacaTemplate, ChatTemplate, JinjaTemplate, open_template, prepare, with_bos
from job.protocols import Tokenizer
from job.records import Failure, Prompt, Row
from tests.unit.builders import SANDBOX_ESCAPES, LetterTokenizer, settings, template_file

COLUMNS = ["instruction", "hint", "range"]
ROW = {"instruction": "Say {hi}.", "hint": None, "range": "wide"}


def _jinja(folder: Path, source: str) -> JinjaTemplate:
    return JinjaTemplate(template_file(folder, source), COLUMNS)


def _rendered(folder: Path, source: str) -> str:
    return _jinja(folder, source).render(ROW, LetterTokenizer())


def test_the_alpaca_text_is_that_of_the_reference_run() -> None:
    assert AlpacaTemplate("instruction").render(ROW, LetterTokenizer()) == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nSay {hi}.\n\n### Response:\n"
    )


@effort(max_examples=30, deadline=None)
@given(st.text())
def test_the_alpaca_text_holds_any_instruction_untouched(instruction: str) -> None:
    before, after = ALPACA.split("{instruction}")
    assert AlpacaTemplate("q").render({"q": instruction}, LetterTokenizer()) == before + instruction + after


@pytest.mark.parametrize("template", [AlpacaTemplate("hint"), ChatTemplate("hint", None)])
def test_a_null_instruction_is_an_error_of_its_row(template: AlpacaTemplate | ChatTemplate) -> None:
    with pytest.raises(ValueError, match="column hint is null"):
        template.render(ROW, LetterTokenizer())


def test_a_chat_puts_the_system_prompt_first() -> None:
    assert ChatTemplate("instruction", None).render(ROW, LetterTokenizer()) == "<user>Say {hi}."
    assert ChatTemplate("instruction", "Be brief.").render(ROW, LetterTokenizer()) == "<system>Be brief.<user>Say {hi}."
    assert ChatTemplate("instruction", "").render(ROW, LetterTokenizer()) == "<system><user>Say {hi}."


def test_a_jinja_file_is_rendered_to_its_last_line_break(tmp_path: Path) -> None:
    assert _rendered(tmp_path, "Q: {{ instruction }}\n\n") == "Q: Say {hi}.\n\n"


def test_a_jinja_file_escapes_nothing(tmp_path: Path) -> None:
    template = _jinja(tmp_path, "{{ instruction }}")
    assert template.render({"instruction": "<a & 'b'>"}, LetterTokenizer()) == "<a & 'b'>"


def test_a_jinja_file_reads_the_columns_that_it_names(tmp_path: Path) -> None:
    template = _jinja(tmp_path, "{% if hint %}{{ hint }}{% endif %}{% set x = instruction %}{{ x }}")
    assert list(template.columns) == ["instruction", "hint"]
    assert template.render(ROW, LetterTokenizer()) == "Say {hi}."


def test_a_column_comes_before_a_function_of_its_name(tmp_path: Path) -> None:
    template = _jinja(tmp_path, "{{ range }}{% set box = namespace(n=1) %}{{ box.n }}")
    assert list(template.columns) == ["range"]
    assert template.render(ROW, LetterTokenizer()) == "wide1"


def test_the_text_of_a_jinja_file_counts_in_the_identity_and_its_path_does_not(tmp_path: Path) -> None:
    assert _jinja(tmp_path, "{{ hint }}!").facts == {"template": "jinja", "text": "{{ hint }}!"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ question }} {{ answer }}", "uses answer, question; the columns are: instruction, hint, range"),
        ("{{ instruction", "is no valid Jinja template: unexpected end of template"),
        ("{% if instruction %}", "is no valid Jinja template: Unexpected end of template"),
        ("{{ instruction|shout }}", "is no valid Jinja template: No filter named 'shout'"),
        ("{{ instruction|random }}", "is no valid Jinja template: No filter named 'random'"),
        ("{{ lipsum() }}", "uses lipsum; the columns are"),
        (
            "{% for x in instruction %}" * 30 + "{% endfor %}" * 30,
            "is no valid Jinja template: too many statically nested blocks",
        ),
        ("{{ " + "(" * 3000 + "instruction" + ")" * 3000 + " }}", "is no valid Jinja template: maximum recursion depth"),
    ],
)
def test_a_jinja_file_that_can_never_work_is_a_settings_error(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _jinja(tmp_path, source)
    (problem,) = caught.value.problems
    assert problem.variable == "PROMPT_TEMPLATE"
    assert problem.value == str(tmp_path / "prompt.jinja")
    assert message in problem.message


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ hint }}", "the template prints a null"),
        ("{{ instruction ~ instruction.strip }}", "prints an object of Python (... at 0x"),
        ("{{ [instruction.strip] }}", "prints an object of Python (... at 0x"),
        ("{{ '' ~ (instruction|map('upper')) }}", "are brackets or a filter `list` missing?"),
        ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ instruction.__class__ }}", "access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ instruction|attr('__class__') }}", "access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ cycler.__init__.__globals__ }}", "access to attribute '__init__' of 'type' object is unsafe"),
        ("{% include '/etc/hostname' %}", "no loader for this environment"),
        ("{{ instruction.nothing }}", "has no attribute 'nothing'"),
        ("{{ instruction + 1 }}", "can only concatenate str"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 'a' * 10 ** 16 }}", "MemoryError"),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "maximum recursion depth"),
        ("{{ 'é'.encode('ascii') }}", "can't encode"),
    ],
)
def test_a_jinja_file_that_fails_on_a_row_is_an_error_of_the_row(tmp_path: Path, source: str, message: str) -> None:
    (prompt,) = prepare([Row(4, ROW)], _jinja(tmp_path, source), LetterTokenizer(), 100)
    assert (prompt.position, prompt.text, prompt.tokens) == (4, None, 0)
    assert prompt.failure is not None
    assert prompt.failure.reason == "error"
    assert message in prompt.failure.message


@pytest.mark.parametrize("source", SANDBOX_ESCAPES)
def test_a_jinja_file_cannot_leave_its_sandbox(tmp_path: Path, source: str) -> None:
    with pytest.raises(ValueError, match="the template failed: ") as caught:
        _rendered(tmp_path, source)
    assert isinstance(caught.value.__cause__, SecurityError | OverflowError | TypeError)


@pytest.mark.parametrize("change", ["append('c')", "clear()", "insert(0, 'c')", "pop()", "extend(['c'])", "reverse()"])
def test_a_jinja_file_cannot_change_what_the_next_row_sees(tmp_path: Path, change: str) -> None:
    row = {"tags": ["a", "b"]}
    template = JinjaTemplate(template_file(tmp_path, f"{{% set _ = tags.{change} %}}{{{{ tags }}}}"), ["tags"])
    with pytest.raises(ValueError, match="of 'list' object is unsafe"):
        template.render(row, LetterTokenizer())
    assert row == {"tags": ["a", "b"]}


def test_a_namespace_lasts_for_one_row(tmp_path: Path) -> None:
    source = "{% set box = namespace(seen=0) %}{% for _ in [1, 2] %}{% set box.seen = box.seen + 1 %}{% endfor %}{{ box.seen }}"
    template = JinjaTemplate(template_file(tmp_path, source), ["hint"])
    assert [template.render(ROW, LetterTokenizer()) for _ in range(2)] == ["2", "2"]


def test_open_template_chooses_by_name(tmp_path: Path) -> None:
    file = template_file(tmp_path, "{{ hint }}")
    chat = settings(PROMPT_TEMPLATE="chat", SYSTEM_PROMPT="Be brief.").prompt
    assert open_template(settings().prompt, "instruction", COLUMNS).facts == {"template": "alpaca", "text": ALPACA}
    assert open_template(chat, "hint", COLUMNS).facts == {"template": "chat", "system_prompt": "Be brief."}
    assert list(open_template(chat, "hint", COLUMNS).columns) == ["hint"]
    assert open_template(settings(PROMPT_TEMPLATE=file).prompt, "instruction", COLUMNS).facts["template"] == "jinja"


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_template_that_cannot_be_read_is_a_settings_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "alpacca"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        open_template(settings(PROMPT_TEMPLATE=path).prompt, "instruction", COLUMNS)
    assert str(caught.value).startswith(f"PROMPT_TEMPLATE='{path}': is neither alpaca nor chat, and cannot be read")


IDS = st.lists(st.integers(0, 5), max_size=8)


@effort(max_examples=30, deadline=None)
@given(IDS)
def test_with_bos_leaves_exactly_one_in_front(ids: list[int]) -> None:
    body = ids[1:] if ids[:1] == [1] else ids
    assert list(with_bos(ids, 1)) == [1, *body]


@effort(max_examples=20, deadline=None)
@given(IDS)
def test_with_bos_adds_nothing_where_the_tokenizer_has_none(ids: list[int]) -> None:
    assert with_bos(ids, None) == ids


def _lengths(limit: int, bos: int | None, *texts: str) -> list[Prompt]:
    rows = [Row(position, {"instruction": text}) for position, text in enumerate(texts)]
    return list(prepare(rows, _Plain(), LetterTokenizer(bos), limit))


class _Plain:
    """The instruction and nothing around it."""

    columns = ("instruction",)
    facts: dict[str, object] = {}

    def render(self, row: Mapping[str, object], tokenizer: Tokenizer) -> str:
        return str(row["instruction"])


def test_a_prompt_has_to_leave_room_for_one_token() -> None:
    fits, full = _lengths(5, None, "abcd", "abcde")
    assert fits == Prompt(0, "abcd", [97, 98, 99, 100], 4)
    assert full == Prompt(
        1,
        "abcde",
        (),
        5,
        Failure("too_long", "the prompt has 5 tokens, which leaves no room for an answer in MAX_MODEL_LEN=5"),
    )


def test_the_bos_counts_as_a_token() -> None:
    fits, full = _lengths(5, 1, "abc", "abcd")
    assert (fits.token_ids, fits.tokens, fits.failure) == ([1, 97, 98, 99], 4, None)
    assert full.tokens == 5
    assert full.failure is not None
    assert full.failure.reason == "too_long"


def test_an_empty_prompt_is_an_error_of_its_row() -> None:
    (prompt,) = _lengths(5, None, "")
    assert prompt == Prompt(0, "", (), 0, Failure("error", "the prompt is empty"))


def test_an_empty_text_is_a_prompt_where_there_is_a_bos() -> None:
    assert _lengths(5, 1, "") == [Prompt(0, "", [1], 1)]


def test_an_error_that_is_no_text_can_be_written_nevertheless(tmp_path: Path) -> None:
    template = _jinja(tmp_path, r"""{{ "{!\ud800}".format(instruction) }}""")
    (prompt,) = prepare([Row(0, ROW)], template, LetterTokenizer(), 100)
    assert prompt.failure is not None
    assert prompt.failure.message.encode()
    assert r"\ud800" in prompt.failure.message


def test_a_column_may_hold_what_looks_like_an_object(tmp_path: Path) -> None:
    row = ROW | {"instruction": "What is <Foo object at 0x7f1c>?"}
    (prompt,) = prepare([Row(0, row)], _jinja(tmp_path, "{{ [instruction] }}"), LetterTokenizer(), 100)
    assert prompt.text == "['What is <Foo object at 0x7f1c>?']"


def test_failures_do_not_shift_the_tokens_of_other_rows() -> None:
    texts: list[str | None] = ["a", None, "b", "forbidden", "c"]
    rows = [Row(position, {"q": text}) for position, text in enumerate(texts)]
    prompts = list(prepare(rows, ChatTemplate("q", None), LetterTokenizer(), 100))
    assert [prompt.position for prompt in prompts] == [0, 1, 2, 3, 4]
    assert [prompt.failure and prompt.failure.message for prompt in prompts] == [
        None,
        "column q is null",
        None,
        "the template refuses it",
        None,
    ]
    assert [prompt.token_ids[-1] for prompt in prompts if not prompt.failure] == [ord("a"), ord("b"), ord("c")]


@pytest.mark.parametrize("count", [0, 1, BATCH_ROWS - 1, BATCH_ROWS, BATCH_ROWS + 1, 2 * BATCH_ROWS])
def test_every_row_becomes_a_prompt_whatever_the_batches(count: int) -> None:
    prompts = _lengths(100, None, *(f"text {number}" for number in range(count)))
    assert [prompt.text for prompt in prompts] == [f"text {number}" for number in range(count)]
    assert [prompt.position for prompt in prompts] == list(range(count))


def test_a_jinja_file_that_does_not_end_ends_the_run(tmp_path: Path) -> None:
    """How far it comes depends on the machine, so its rows are not recorded as failed."""
    loop = "{% set x = 'x' * 99999 %}{% for y in x %}{% for z in x %}{% endfor %}{% endfor %}"
    with pytest.raises(SettingsError, match=r"PROMPT_TEMPLATE=.* takes more than 0\.2 seconds for one prompt"):
        JinjaTemplate(template_file(tmp_path, loop), COLUMNS, seconds=0.2).render(ROW, LetterTokenizer())


@pytest.mark.parametrize(
    "source",
    [
        "{{ 10**1000000000 }}",
        "{% set ns = namespace(x=3) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
        "{{ 5|round(1000000000) }}",
        "{{ instruction * 1000000000 }}",
        "{% set ns = namespace(x='aa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    ],
)
def test_a_jinja_file_that_asks_for_too_much_is_an_error_of_the_row(tmp_path: Path, source: str) -> None:
    with pytest.raises(ValueError, match="the template failed: "):
        _rendered(tmp_path, source)


def test_a_jinja_file_still_has_its_arithmetic(tmp_path: Path) -> None:
    assert _rendered(tmp_path, "{{ 2**10 }} {{ 3 * 4 }} {{ 'ab' * 2 }} {{ 2.5 * 2 }} {{ 2.567|round(1) }} {{ 7|round }}") == (
        "1024 12 abab 5.0 2.6 7"
    )
