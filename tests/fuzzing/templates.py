"""Area `templates`: Jinja files by their grammar, endless and enormous ones too, and files that are none."""

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from tests.fuzzing.case import HERE, Case, Put
from tests.fuzzing.damage import edits, instead, words


def _lines(*rows: Mapping[str, object]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


_ROWS = _lines(
    {
        "instruction": "Say hello.",
        "id": 1,
        "score": 0.5,
        "note": None,
        "tags": ["a", "b"],
        "meta": {"k": "v", "n": [1, 2]},
        "é": "x",
    },
    {"instruction": "", "id": 2, "score": -1e300, "note": "n", "tags": [], "meta": {"k": None, "n": []}, "é": ""},
    {"instruction": "😀 {{ id }}", "id": 2**63 - 1, "score": 0.0, "note": None, "tags": None, "meta": None, "é": "y"},
)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
_NAMES = st.sampled_from(
    [
        *words(
            "instruction  id  score  note  tags  meta  context  self  loop  range  dict  namespace  cycler  joiner  lipsum  "
            "varargs  caller  x  ns  true  none  super  _  __builtins__"
        ),
        "é",
    ]
)
_ATTRIBUTES = st.sampled_from(
    [
        *words(
            "__class__  __mro__  __subclasses__()  __init__  __globals__  __dict__  format  format_map({})  join(tags)  k  "
            "n[0]  encode()  real  pop()  append(1)  update({})  mro()  items()  n.append(n)  upper()  splitlines()  _x  "
            "index  length  previtem  cycle(1, 2)  changed(id)  gi_frame  __str__()  ljust(10**9)  zfill(10**9)  "
            "isoformat()"
        )
    ]
)
_FILTERS = st.sampled_from(
    [
        *words(
            "upper  list  length  int  float  string  join  join(',')  sort  reverse  first  last  random  tojson  safe  "
            "escape  e  replace('a', 'b')  replace('', 'aaaa')  truncate(3)  wordwrap(1)  center(10)  indent  default('x')  "
            "d  batch(2)  slice(2)  slice(10**9)  batch(10**9, 'x')  center(10**9)  indent(10**9)  map('upper')  "
            "map(attribute='k')  select('odd')  groupby('k')  dictsort  xmlattr  urlencode  urlize  striptags  format(1)  "
            "format(instruction)  round  round(400)  abs  sum  min  max  unique  items  pprint  filesizeformat  "
            "attr('__class__')  nosuch  tojson(10**8)"
        )
    ]
)
_LITERALS = st.one_of(
    st.integers(-3, 3).map(str),
    st.sampled_from(
        [
            "10**9",
            "2**70",
            "1e308",
            "'a'",
            "''",
            "'%s'",
            "'%1000000000d'",
            "'{:>1000000000}'",
            "'{0.__class__}'",
            "[]",
            "[1]",
            "{}",
        ]
    )
    | st.sampled_from(
        ["('a', 1)", "range(3)", "range(10**9)", "range(99999)", "'\\ud800'", "1_000", "0x1", "none", "true", "'a' * 10**9"]
    )
    | st.sampled_from(
        ["9**9**9", "[0] * 10**9", "'a' * 10**10", "namespace(x=1)", "dict(a=1)", "cycler(1)", "instruction * 10**8"]
    ),
)
_EXPRESSIONS = st.recursive(
    _NAMES | _LITERALS,
    lambda inner: st.one_of(
        st.tuples(inner, _FILTERS).map(" | ".join),
        st.tuples(inner, _ATTRIBUTES).map(".".join),
        st.tuples(
            inner, st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "in", "and", "or", "is"]), inner
        ).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(inner, inner).map(lambda parts: f"{parts[0]}[{parts[1]}]"),
        st.tuples(inner, inner).map(lambda parts: f"{parts[0]}({parts[1]})"),
        inner.map(lambda one: f"[{one}, {one}]"),
        inner.map(lambda one: f"not {one}"),
        inner.map(lambda one: f"({one} if {one} else {one})"),
        inner.map(lambda one: f"({one} is defined)"),
    ),
    max_leaves=5,
)
_LONG_LOOPS = st.sampled_from(
    ["range(99999)", "range(10**5)", "range(300)", "tags", "tags", "tags", "meta", "meta", "range(3)", "instruction"]
)


def _blocks(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(_EXPRESSIONS, inner).map(lambda parts: f"{{% if {parts[0]} %}}{parts[1]}{{% else %}}-{{% endif %}}"),
        st.tuples(_EXPRESSIONS | _LONG_LOOPS, inner).map(lambda parts: f"{{% for x in {parts[0]} %}}{parts[1]}{{% endfor %}}"),
        st.tuples(inner, inner).map("".join),
        st.tuples(_EXPRESSIONS, inner).map(lambda parts: f"{{% set x = {parts[0]} %}}{parts[1]}"),
        inner.map(lambda body: f"{{% macro f(x, y=1) %}}{body}{{{{ f(x) }}}}{{% endmacro %}}{{{{ f(1) }}}}"),
        inner.map(
            lambda body: (
                "{% macro f(n) %}"
                + body
                + "{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(tags | length * 5) }}"
            )
        ),
        inner.map(lambda body: f"{{% block b %}}{body}{{{{ self.b() }}}}{{% endblock %}}"),
        inner.map(lambda body: f"{{% filter upper %}}{body}{{% endfilter %}}"),
        inner.map(lambda body: f"{{% call(u) range(3) %}}{body}{{% endcall %}}"),
        inner.map(lambda body: f"{{% for x in [meta] recursive %}}{body}{{{{ loop([x]) }}}}{{% endfor %}}"),
        inner.map(
            lambda body: (
                "{% set ns = namespace(x='aa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}" + body + "{% endfor %}"
            )
        ),
        inner.map(lambda body: f"{{% raw %}}{body}{{% endraw %}}"),
        inner.map(lambda body: f"{{# {body} #}}"),
    )


_PIECES = st.one_of(
    _TEXT,
    _EXPRESSIONS.map(lambda text: f"{{{{ {text} }}}}"),
    st.sampled_from(
        [
            "{% include 'x' %}",
            "{% import 'x' as y %}",
            "{% extends 'x' %}",
            "{% include instruction %}",
            "{% do 1 %}",
            "{% break %}",
        ]
    )
    | st.sampled_from(
        [
            "{%",
            "{{",
            "#}",
            "{% endfor %}",
            "{%- if",
            "{% autoescape true %}{{ id }}{% endautoescape %}",
            "{% debug %}",
            "{% trans %}",
        ]
    ),
)
TEMPLATES = st.recursive(_PIECES, _blocks, max_leaves=6)
_DEEP = st.builds(
    lambda how, times: how[0] * times + how[1] + how[2] * times,
    st.sampled_from(
        [
            ("{% if id %}", "x", "{% endif %}"),
            ("{{ ", "(" * 5 + "1" + ")" * 5, " }}"),
            ("{% for x in tags %}", "x", "{% endfor %}"),
            ("{{ [", "1", "] }}"),
            ("{{ ((((((((((", "1", ")))))))))) }}"),
            ("{{ id", " | abs", " }}"),
            ("x", "{{ id }}", "y" * 99),
        ]
    ),
    st.sampled_from([1, 10, 30, 100, 500, 3000, 20_000]),
)
_CHAINS = st.builds(
    lambda piece, times: "{{ id" + piece * times + " }}",
    st.sampled_from([" | abs", " + 1", ".real", "[0]", "()", " if id else 1", " and id", " ~ id", " < 1", "**2"]),
    st.sampled_from([3, 50, 99, 500, 5000]),
)
_FILES = st.one_of(
    TEMPLATES.map(lambda text: text.encode()),
    TEMPLATES.map(lambda text: text.encode()),
    (_DEEP | _CHAINS).map(lambda text: text.encode()),
    TEMPLATES.map(lambda text: b"\xef\xbb\xbf" + text.encode()),
    TEMPLATES.map(lambda text: text.encode("utf-16")),
    st.binary(max_size=200),
)
_PATH = "prompt.jinja"


def cases() -> st.SearchStrategy[Case]:
    template = st.builds(Put, st.just(_PATH), st.just("file"), _FILES)
    more: st.SearchStrategy[Any] = (
        st.lists(edits(_PATH), max_size=2) | st.just([]) | instead(_PATH, [f"{HERE}/rows.jsonl"]).map(lambda put: [put])
    )
    allowed = st.sampled_from([(), (("MAX_FAILED_ROWS", "3"),), (("MAX_FAILED_ROWS", "9"), ("DRY_RUN", "true"))])
    return st.builds(
        lambda first, then, settings: Case(
            "templates",
            (("PROMPT_TEMPLATE", f"{HERE}/{_PATH}"), ("DATASET_ID", f"{HERE}/rows.jsonl"), *settings),
            (Put("rows.jsonl", "file", _ROWS), first, *then),
        ),
        template,
        more,
        allowed,
    )
