"""Texts of models, datasets and manifests that try to become more than text: none of them runs or asks the network."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.report.writing import write_report
from tests.browser.chromium import Page
from tests.browser.conftest import make_report, no_hub
from tests.result_folders import Answer, Made, change_manifest, write_results

pytestmark = [pytest.mark.browser, pytest.mark.slow]

AWAY = "https://attack.invalid"
HOSTILE = [
    "<script>window.owned = 1; alert(1)</script>",
    "</script><script>window.owned = 2; alert(2)</script>",
    "--></script></template></style></title><script>window.owned = 3</script><!--",
    f"<img src='{AWAY}/x.png' onerror='window.owned = 4; alert(4)'>",
    "<svg onload='window.owned = 5; alert(5)'><script>window.owned = 5</script></svg>",
    f"<iframe srcdoc='<script>parent.owned = 6</script>'></iframe><iframe src='{AWAY}'></iframe>",
    "[click me](javascript:window.owned=7) ![x](javascript:alert(7))",
    (
        f"![picture]({AWAY}/y.png) <link rel=stylesheet href='{AWAY}/z.css'> "
        f"<style>@import '{AWAY}/i.css'; body {{ display: none }}</style>"
    ),
    "<a href='javascript:window.owned=8' autofocus onfocus='window.owned = 8'>x</a><input autofocus onfocus=alert(8)>",
    (
        "{{ 7 * 7 }} {% raw %}{{ self.__init__ }}{% endraw %} ${alert(9)} "
        "#{alert(9)} <%= alert(9) %> {{constructor.constructor('alert(9)')()}}"
    ),
    "line\u2028separators\u2029</script>\u2028<script>window.owned = 10</script>",
    "null\x00bytes\x00<scr\x00ipt>window.owned = 11</scr\x00ipt>\x1b[31m\x07\x08",
    "<b>" * 20_000,
    "*" * 20_000 + "[" * 20_000 + "`" * 20_000 + "_" * 20_000 + "> " * 20_000,
    "- " * 5_000 + "\n" + "\n".join(" " * depth + "- deeper" for depth in range(400)),
    "\u202egnirts desrever\u202c \u2066isolated\u2069 \u200bzero\ufeff",
    f"<meta http-equiv=refresh content='0;url={AWAY}'><base href='{AWAY}'><form action='{AWAY}'><button>go</button></form>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(12)&gt;'>",
    "```html\n<script>window.owned = 13</script>\n```\n`<img src=x onerror=alert(13)>` **<img src=x onerror=alert(13)>**",
    '"];window.owned=14;//\\"];alert(14);//\\u003cscript\\u003ealert(14)\\u003c/script\\u003e',
    (
        "<template><script>window.owned = 15</script></template>"
        "<object data='data:text/html,<script>parent.owned=15</script>'></object>"
    ),
    "data:text/html;base64,PHNjcmlwdD5hbGVydCgxNik8L3NjcmlwdD4= <embed src='javascript:alert(16)'>",
    "\ud7ff\ue000\U0010ffff 👩‍👩‍👧‍👦 Z̷͎̾a̸l̵g̶o̴" + "\u0301" * 3000,
    "x" * 400_000,
]
FOREIGN = (
    "#rows :is(script, img, svg, iframe, object, embed, link, style, meta, base, form, input, template, math, video, audio)"
)


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each text as instruction, as answers, as another column and its name, and as the model's name."""
    folder = tmp_path_factory.mktemp("hostile")

    def rows() -> Iterator[tuple[dict[str, object], list[Answer]]]:
        for text in HOSTILE:
            yield {"instruction": text, HOSTILE[3]: text}, [Answer(text)]

    folders = [write_results(folder / f"run-{number}", rows(), Made(f"org/m{number}")) for number in range(3)]
    for number, text in enumerate((HOSTILE[1], HOSTILE[3], HOSTILE[4])):
        change_manifest(
            folders[number],
            model={"name": text, "commit": text, "local": False},
            dataset={"name": text, "commit": text, "local": False},
            engine={"name": text, "version": text, "device": text, "dtype": text},
            seconds={text: 1.5, "generation": 2.0},
        )
    report = folder / "report.html"
    write_report([str(each) for each in folders], report, no_hub)
    return report


@pytest.mark.parametrize("state", ["", "view=raw", "diff=1", "q=script", "view=raw&q=owned"])
def test_nothing_of_it_runs_and_nothing_leaves_the_page(page: Page, hostile_report: Path, state: str) -> None:
    page.open(f"{hostile_report.as_uri()}#{state}")
    page.until("document.querySelector('.row')")
    for _ in range(2):
        page.eval("document.querySelectorAll('.tools button:first-child, .fold:not([hidden])').forEach((each) => each.click())")
        page.press("n")
    page.eval("new Promise((done) => setTimeout(done, 300))")
    assert page.eval("window.owned") is None
    assert page.dialogs == []
    assert page.requests == [page.requests[0]]
    assert page.requests[0].startswith(hostile_report.as_uri())
    assert page.console == []
    assert page.eval(f"document.querySelectorAll({json.dumps(FOREIGN)}).length") == 0
    assert page.eval("[...document.links].every((each) => each.getAttribute('href').startsWith('#'))") is True
    assert page.eval("getComputedStyle(document.body).display") == "block"
    assert page.eval("document.scripts.length") == page.eval("document.querySelectorAll('body > script').length")


def test_the_raw_view_shows_each_text_as_it_is(page: Page, tmp_path: Path) -> None:
    plain = [text for text in HOSTILE if len(text) < 1000 and text.isprintable() and "\u202e" not in text]
    assert len(plain) >= 12
    report = make_report(tmp_path, [(f"row {number}", [Answer(text)]) for number, text in enumerate(plain)], ["org/a"])
    page.open(f"{report.as_uri()}#view=raw")
    assert page.eval("[...document.querySelectorAll('.answer')].map((each) => each.textContent)") == plain[:20]


def test_what_cannot_be_seen_is_shown_by_its_number(page: Page, tmp_path: Path) -> None:
    report = make_report(tmp_path, [("row", [Answer("a\x00b\u202ec\u2028d")])], ["org/a"])
    page.open(f"{report.as_uri()}#view=raw")
    assert page.eval("document.querySelector('.answer').textContent") == "aU+0000bU+202EcU+2028d"


def test_the_policy_stops_what_would_get_in_all_the_same(page: Page, hostile_report: Path) -> None:
    page.open(hostile_report.as_uri())
    for attempt in (
        "document.body.insertAdjacentHTML('beforeend', '<img src=x>')",
        "document.body.innerHTML = '<b>x</b>'",
        "document.body.appendChild(document.createElement('script')).textContent = 'window.owned = 1'",
        "document.body.setAttribute('onclick', 'window.owned = 2')",
    ):
        got = page.eval(f"(() => {{ try {{ {attempt}; return 'done'; }} catch (error) {{ return error.name; }} }})()")
        assert got == "TypeError"
    page.eval(f"new Promise((done) => {{ const it = new Image(); it.onerror = done; it.src = '{AWAY}/x.png'; }})")
    page.eval(f"fetch('{AWAY}/y').catch(() => null)")  # which does not even become a request
    assert page.eval("window.owned") is None
    assert [address for address in page.requests if address.startswith(AWAY)] == page.blocked == [f"{AWAY}/x.png"]
