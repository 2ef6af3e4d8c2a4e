"""The report in a browser, used as a person does: with the keyboard, the controls, and links."""

import random
from pathlib import Path

import pytest

from job.report.writing import write_report
from tests.browser.chromium import Page
from tests.browser.conftest import make_report, no_hub
from tests.result_folders import Answer, Made, write_results

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SHOWN = "[...document.querySelectorAll('.row')].map((row) => Number(row.id.slice(4)))"
COUNT = "document.getElementById('count').textContent"
CURRENT = "document.querySelector('.row.current')?.id"


def test_three_models_stand_side_by_side(page: Page, report: Path) -> None:
    page.open(report.as_uri())
    assert page.eval(SHOWN) == list(range(20))
    assert page.eval(COUNT) == "450 rows"
    names = page.eval("[...document.querySelectorAll('#row-1 .cell h4')].map((each) => each.textContent)")
    assert names == ["model-a", "model-b", "model-c"]
    lefts = page.eval("[...document.querySelectorAll('#row-1 .cell')].map((each) => each.getBoundingClientRect().left)")
    assert lefts == sorted(set(lefts))
    told = page.eval("[...document.querySelectorAll('#row-5 .facts')].map((each) => each.textContent)")
    assert told == ["stop15 tokensCopy", "length15 tokensCopy", "stop15 tokensCopy"]
    assert page.requests == [report.as_uri()]
    assert page.console == []


def test_a_row_without_an_answer_says_so(page: Page, report: Path) -> None:
    page.open(f"{report.as_uri()}#row=7")
    assert "No answer." in page.eval("document.querySelectorAll('#row-7 .cell')[2].textContent")


def test_search_finds_instructions_and_answers_of_all_pages(page: Page, report: Path) -> None:
    page.open(report.as_uri())
    page.press("/")
    assert page.eval("document.activeElement.id") == "q"
    page.type("ANSWER 44")
    page.until(f"{COUNT} === '11 of 450 rows'")
    assert page.eval(SHOWN) == [44, *range(440, 450)]
    assert page.eval("document.querySelector('#row-440 mark').textContent") == "Answer 44"
    page.press("Escape")
    assert page.eval("document.activeElement.id") == ""
    page.choose("q", "number 399")
    page.until(f"{COUNT} === '1 of 450 rows'")
    page.choose("q", "nowhere")
    page.until(f"{COUNT} === '0 of 450 rows'")
    assert "No rows" in page.eval("document.getElementById('rows').textContent")


@pytest.mark.parametrize(
    ("choices", "count", "first"),
    [
        ({"same": "identical"}, 150, 0),
        ({"same": "differing"}, 300, 1),
        ({"reason": "length"}, 90, 0),
        ({"reason": "error"}, 1, 7),
        ({"reason": "length", "of": "0"}, 0, None),
        ({"min": "100", "max": "109"}, 10, 90),
        ({"reason": "length", "same": "identical", "min": "400"}, 4, 390),
    ],
)
def test_filters(page: Page, report: Path, choices: dict[str, str], count: int, first: int | None) -> None:
    page.open(report.as_uri())
    for name, value in choices.items():
        page.choose(name, value)
    page.until(f"{COUNT} === '{count} of 450 rows'")
    page.until(f"({SHOWN})[0] === {first if first is not None else 'undefined'}")
    assert page.eval("document.getElementById('count').getAttribute('aria-live')") == "polite"
    page.eval("document.getElementById('reset').click()")
    page.until(f"{COUNT} === '450 rows'")


def test_keys_go_through_the_rows_and_over_the_end_of_what_is_shown(page: Page, report: Path) -> None:
    page.open(report.as_uri())
    for expected in ("row-0", "row-1", "row-2"):
        page.press("j")
        assert page.eval(CURRENT) == expected
        assert page.eval("document.activeElement.id") == expected
    page.press("k")
    assert page.eval(CURRENT) == "row-1"
    page.press("n")
    page.until(f"{CURRENT} === 'row-20'")
    page.press("k")
    page.until(f"{CURRENT} === 'row-19'")
    page.press("?")
    assert page.eval("document.getElementById('shortcuts').open") is True
    page.press("j")
    page.press("Escape")
    page.until("!document.getElementById('shortcuts').open")
    assert page.eval(CURRENT) == "row-19"


def test_a_link_leads_to_the_same_row_and_filters(page: Page, report: Path) -> None:
    page.open(f"{report.as_uri()}#row=301&same=differing&view=raw")
    page.until(f"{CURRENT} === 'row-301'")
    assert page.eval(COUNT) == "300 of 450 rows"
    assert page.eval("document.getElementById('same').value") == "differing"
    top = page.eval("document.getElementById('row-301').getBoundingClientRect().top")
    assert 0 <= top <= 300
    page.press("j")
    assert page.eval("location.hash") == "#row=302&same=differing&view=raw"


def test_a_link_to_a_row_that_is_filtered_out_says_so(page: Page, report: Path) -> None:
    page.open(f"{report.as_uri()}#row=3&same=differing")
    assert page.eval(COUNT) == "300 of 450 rows; row 3 is not one of them"


def test_nonsense_in_a_link_is_left_out(page: Page, report: Path) -> None:
    page.open(f"{report.as_uri()}#row=<b>&same=x&reason=constructor&of=9&a=-1&view=__proto__&min=1e9")
    assert page.eval(COUNT) == "450 rows"
    assert page.console == []


def test_the_difference_of_two_models_word_by_word(page: Page, report: Path) -> None:
    page.open(f"{report.as_uri()}#row=1&a=0&b=2")
    page.press("d")
    page.until("document.querySelector('#row-1 ins')")
    texts = "[...document.querySelectorAll('#row-1 {}')].map((each) => each.textContent)"
    assert page.eval(texts.format("del")) == ["0", "fox0"]
    assert page.eval(texts.format("ins")) == ["2", "fox2"]
    assert page.eval("document.querySelectorAll('#row-1 .cell')[1].querySelector('ins, del')") is None
    assert page.eval("document.querySelector('#row-0 ins, #row-0 del')") is None  # answered alike
    assert "diff=1" in page.eval("location.hash")


def test_a_comparison_loses_no_text_and_calls_the_same_only_what_is(page: Page, tmp_path: Path) -> None:
    dice = random.Random(0)
    words = ["a", "b", "cat", "dog,", "naïve", "猫", "\n\n", "  ", "(x)", "🙂"]
    pairs = [[" ".join(dice.choices(words, k=dice.randint(1, 40))) for _ in range(2)] for _ in range(20)]
    report = make_report(tmp_path, [("Go on.", [Answer(text) for text in pair]) for pair in pairs], ["org/a", "org/b"])
    page.open(f"{report.as_uri()}#diff=1")
    texts = page.eval("[...document.querySelectorAll('.answer')].map((each) => each.textContent)")
    assert texts == [text for pair in pairs for text in pair]
    page.eval("document.querySelectorAll('del, ins').forEach((each) => each.remove())")
    kept = page.eval("[...document.querySelectorAll('.answer')].map((each) => each.textContent.replace(/\\s/g, ''))")
    assert kept[::2] == kept[1::2]
    assert sum(map(len, kept)) > sum(map(len, texts)) / 8  # and finds a good deal


def test_long_answers_that_share_nothing_are_not_compared_for_ever(page: Page, tmp_path: Path) -> None:
    one, other = (" ".join(f"{letter}{number}" for number in range(60_000)) for letter in "xy")
    report = make_report(tmp_path, [("Go on.", [Answer(one), Answer(other)])], ["org/a", "org/b"])
    page.open(f"{report.as_uri()}#diff=1")
    assert "Too different" in page.eval("document.querySelector('#row-0').textContent")
    assert page.eval("performance.getEntriesByName('ready')[0].startTime") < 10_000


def test_a_long_answer_is_folded_and_shown_on_demand(page: Page, tmp_path: Path) -> None:
    text = "A line that is repeated.\n\n" * 2000
    report = make_report(tmp_path, [("Go on.", [Answer(text), Answer("Short.")])], ["org/a", "org/b"])
    page.open(report.as_uri())
    height = "document.querySelector('.answer').getBoundingClientRect().height"
    assert page.eval(height) < 500
    assert page.eval("document.querySelectorAll('.fold:not([hidden])').length") == 1
    page.press("j")
    page.press("e")
    page.until(f"{height} > 10000")
    assert page.eval("document.querySelector('.answer').querySelectorAll('p').length") == 2000


def test_markdown_is_rendered_and_the_raw_text_is_one_key_away(page: Page, tmp_path: Path) -> None:
    text = (
        "# Title\n\nSome **bold**, *italic* and `code` and [a link](https://example.org).\n\n- one\n  - inner\n- two\n\n"
        "1. first\n2. second\n\n> quoted\n\n```python\nprint('<b>')\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    )
    report = make_report(tmp_path, [("Show Markdown.", [Answer(text)])], ["org/a"])
    page.open(report.as_uri())
    answer = "document.querySelector('.answer')"
    for selector, expected in {
        "h4": "Title",
        "strong": "bold",
        "em": "italic",
        "p code": "code",
        "ul > li > ul > li": "inner",
        "ol li:nth-child(2)": "second",
        "blockquote p": "quoted",
        "pre code": "print('<b>')",
        "td:last-child": "2",
    }.items():
        assert page.eval(f"{answer}.querySelector({selector!r})?.textContent") == expected, selector
    assert page.eval(f"{answer}.querySelector('a')") is None
    assert "a link (https://example.org)" in page.eval(f"{answer}.textContent")
    page.press("r")
    page.until("document.querySelector('.answer.raw')")
    assert page.eval(f"{answer}.textContent") == text


def test_samples_stand_below_each_other_and_are_compared_one_by_one(page: Page, tmp_path: Path) -> None:
    def of(*texts: str) -> Path:
        rows = [({"instruction": "Say it."}, [Answer(text) for text in texts])]
        return write_results(tmp_path / texts[0], iter(rows), Made(f"org/{texts[0]}", settings={"NUM_SAMPLES": 2}))

    folders = [of("one", "same"), of("two", "same")]
    write_report([str(folder) for folder in folders], tmp_path / "report.html", no_hub)
    page.open(f"{(tmp_path / 'report.html').as_uri()}#diff=1")
    headings = page.eval("[...document.querySelectorAll('.cell .sample > header')].map((each) => each.textContent.slice(0, 8))")
    assert headings == ["Sample 1", "Sample 2"] * 2
    assert page.eval("[...document.querySelectorAll('del, ins')].map((each) => each.textContent)") == ["one", "two"]
    assert page.eval("document.querySelectorAll('.facts button').length") == 4


def test_a_row_that_one_run_lacks_and_the_prompts_and_other_columns(page: Page, tmp_path: Path) -> None:
    rows = [({"instruction": f"{number}?", "output": f"reference {number}"}, [Answer("yes")]) for number in range(2)]
    folders = [write_results(tmp_path / name, iter(rows[:count]), Made(f"org/{name}")) for name, count in (("a", 2), ("b", 1))]
    write_report([str(folder) for folder in folders], tmp_path / "report.html", no_hub)
    page.open((tmp_path / "report.html").as_uri())
    assert "This run has no such row." in page.eval("document.querySelectorAll('#row-1 .cell')[1].textContent")
    assert "Not all of them have the same rows: a 2, b 1." in page.eval("document.querySelector('.warning').textContent")
    page.eval("document.querySelector('#row-1 .tools button').click()")
    shown = page.eval("[...document.querySelectorAll('#row-1 .extra :is(h4, pre)')].map((each) => each.textContent)")
    assert shown == ["output", "reference 1", "prompt", "### Instruction:\n1?\n\n### Response:\n"]


def test_copy_gives_the_text_as_the_model_wrote_it(page: Page, tmp_path: Path) -> None:
    text = "**Bold** \u202e and \x07 more"
    report = make_report(tmp_path, [("Copy.", [Answer(text)])], ["org/a"])
    page.open(report.as_uri())
    page.eval("void (navigator.clipboard.writeText = async (text) => { window.copied = text; })")
    page.eval("document.querySelector('.cell .facts button').click()")
    assert page.eval("window.copied") == text


def test_writing_from_right_to_left_and_without_spaces(page: Page, tmp_path: Path) -> None:
    rows = [
        ("اكتب جملة", [Answer("هذه جملة قصيرة."), Answer("猫が好きです")]),
        ("写一句话", [Answer("我喜欢猫"), Answer("我喜欢狗")]),
    ]
    report = make_report(tmp_path, rows, ["org/a", "org/b"])
    page.open(f"{report.as_uri()}#diff=1")
    direction = "getComputedStyle(document.querySelector('#row-0 .instruction')).direction"
    assert page.eval(direction) == "rtl"
    assert page.eval("document.querySelector('#row-1 del').textContent") == "猫"
    assert page.eval("document.querySelector('#row-1 ins').textContent") == "狗"


def test_on_a_phone_the_answers_stand_below_each_other_and_nothing_sticks_out(page: Page, report: Path) -> None:
    page.looks(width=390, height=800, mobile=True)
    page.open(report.as_uri())
    lefts = page.eval("[...document.querySelectorAll('#row-1 .cell')].map((each) => each.getBoundingClientRect().left)")
    assert len(set(lefts)) == 1
    assert page.eval("document.documentElement.scrollWidth") <= 390
    assert page.eval("getComputedStyle(document.getElementById('controls')).display") == "none"
    page.eval("document.getElementById('more').click()")
    assert page.eval("getComputedStyle(document.getElementById('controls')).display") == "flex"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_what_is_behind_them(page: Page, report: Path, scheme: str) -> None:
    page.looks(width=1280, height=900, scheme=scheme)
    page.open(f"{report.as_uri()}#row=7&diff=1")
    assert page.eval(CONTRASTS) == []


def test_every_control_has_a_name_and_every_name_of_a_label_something_to_label(page: Page, report: Path) -> None:
    page.open(report.as_uri())
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {
        "button",
        "textbox",
        "searchbox",
        "combobox",
        "checkbox",
        "radio",
        "spinbutton",
        "link",
        "article",
        "region",
        "image",
    }
    nameless = [
        node
        for node in nodes
        if node.get("role", {}).get("value") in roles and not node.get("name", {}).get("value", "").strip()
    ]
    assert nameless == []
    ids = page.eval("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids))


# WCAG's contrast of each text with what is behind it: those below 4.5, by what they are.
CONTRASTS = """(() => {
  const channel = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = parts(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility() || node.closest(':disabled, script, noscript, .hidden')) continue;
    const [one, other] = [light(parts(getComputedStyle(node).color)), light(behind(node))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < 4.5) low.push(`${node.tagName}.${node.className} ${contrast.toFixed(2)}: ${node.textContent.slice(0, 20)}`);
  }
  return [...new Set(low)];
})()"""
