"""The report's HTML, from the files in static/. Pure but for reading those. Nothing of a run gets into it unescaped.

The rows are in blocks that no browser runs, packed (see pages); the script puts them into the page as text. The policy in the
page's head names its one script and its one style by their digests, so that nothing else could run or be fetched, even if
something of a run got into the page as HTML.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from job.report.comparison import Difference
from job.report.figures import Figures
from job.report.pages import REASONS

_STATIC = Path(__file__).with_name("static")
SCRIPTS = ("data.js", "text.js", "markdown.js", "diff.js", "filters.js", "rows.js", "main.js")
# What JSON may hold and a block in HTML must not: what could end it, and the line ends that JavaScript knows and JSON does not.
_ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class Summary:
    """What stands above the rows."""

    dataset: str
    split: str
    rows: int
    figures: Sequence[Figures]
    differences: Sequence[Difference]
    warnings: Sequence[str]


def head(title: str) -> str:
    """The page's beginning, before the pages of rows."""
    script, style = _script(), _read("report.css")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        f"base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return _environment().get_template("head.html").render(title=title, policy=policy, style=_as_it_is(style))


def blocks(pages: Iterable[str]) -> Iterator[str]:
    """The pages of rows, a block each. They are base64: nothing in them could end a block."""
    for number, page in enumerate(pages):
        yield f'<script type="text/plain" id="page-{number}">{page}</script>\n'


def body(summary: Summary, index: str) -> str:
    """The rest of the page, which comes after the rows: what is above them is known when they are read."""
    values = {
        "runs": [each.run.label for each in summary.figures],
        "reasons": list(REASONS),
        "rows": summary.rows,
    }
    return (
        _environment()
        .get_template("body.html")
        .render(
            summary=summary,
            index=_as_it_is(index),  # base64
            values=_as_it_is(json_block(values)),  # escaped there
            script=_as_it_is(_script()),
        )
    )


def json_block(values: Mapping[str, object]) -> str:
    """JSON that can stand in a block of HTML, whatever texts it holds."""
    return json.dumps(values, ensure_ascii=False).translate(_ESCAPES)


def _as_it_is(text: str) -> Markup:
    """Text that templates do not escape: our own, or one that is escaped for the block that it goes into."""
    return Markup(text)  # noqa: S704 (see above)


def _script() -> str:
    """One script of the files, in a function of its own: it leaves no names in the page."""
    return '(() => {\n"use strict";\n' + "".join(map(_read, SCRIPTS)) + "})();\n"


def _read(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FileSystemLoader(_STATIC),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    return environment
