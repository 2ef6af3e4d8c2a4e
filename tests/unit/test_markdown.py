"""Held against a Markdown parser: what a value is turned into is read back as that value."""

import html
import re

import pytest
from markdown_it import MarkdownIt

from job import markdown

HOSTILE = [
    "plain",
    "a|b",
    "`",
    "``` x",
    " spaced ",
    "a``b`",
    "*bold* _and_ __more__ ~~not~~",
    "[link](http://x) ![image](y)",
    "<b>html</b> &amp; <!-- comment -->",
    "\\| \\` back\\slash",
    "| - |",
    "#1 $x$ {y}",
    "snake_case_name",
    "ä 日本",
]
PARSER = MarkdownIt("commonmark").enable("table")


def texts(rendered: str, tag: str) -> list[str]:
    return [html.unescape(text) for text in re.findall(f"<{tag}>(.*?)</{tag}>", rendered, re.DOTALL)]


@pytest.mark.parametrize("text", HOSTILE)
def test_code_in_a_line_and_in_a_cell_is_the_text(text: str) -> None:
    assert texts(PARSER.render(f"x {markdown.code(text)} y"), "code") == [text]
    rendered = PARSER.render(f"| a | b |\n|---|---|\n| {markdown.in_cell(markdown.code(text))} | c |\n")
    assert texts(rendered, "code") == [text]
    assert len(texts(rendered, "td")) == 2


@pytest.mark.parametrize("text", HOSTILE)
def test_prose_is_the_text_with_nothing_in_it(text: str) -> None:
    (heading,) = texts(PARSER.render(f"# Answers of {markdown.prose(text)}"), "h1")
    assert heading == f"Answers of {text}".rstrip()
    rendered = PARSER.render(f"| a | b |\n|---|---|\n| x{markdown.prose(text)}x | c |\n")
    assert texts(rendered, "td") == [f"x{text}x", "c"]


@pytest.mark.parametrize("text", ["a\nb", "a\r\n# b", "a\tb", "a\u2028b", "a\u202eb", "a\x00b"])
def test_what_cannot_be_seen_is_shown_by_its_number(text: str) -> None:
    for written in (markdown.code(text), markdown.prose(text)):
        assert written.isprintable()
        assert written.startswith(("a", "`a"))


@pytest.mark.parametrize("text", ["x", "```\nx", "a ```` b\n~~~", "```bash\n```"])
def test_a_block_ends_after_its_text(text: str) -> None:
    (fence, paragraph_open, *_) = PARSER.parse(f"{markdown.block(text, 'bash')}\nafter\n")
    assert (fence.type, fence.info, fence.content) == ("fence", "bash", f"{text}\n")
    assert paragraph_open.type == "paragraph_open"
