"""Area `settings`: any environment at all, near the bounds of each variable and far from them."""

import json
from typing import Any, get_args

from annotated_types import Ge, Gt, Le, Lt
from hypothesis import strategies as st

from job.settings import variables
from tests.fuzzing.case import HERE, Case, Put
from tests.fuzzing.verdict import SECRET

# What an environment can hold: no NUL, and bytes that are no UTF-8 come as these surrogates.
LETTERS = st.one_of(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    st.sampled_from("\udc80\udcff\n\r\t\x1b\u2028\u200b\ufeff\U0001f600aA0 .-_,:;'\"{}[]%$#@*?~"),
)
TEXT = st.text(LETTERS, max_size=30)
SLASHED = st.text(LETTERS, max_size=12).filter(lambda text: "/" not in text)
WORDS = st.sampled_from(
    [
        *[
            "true",
            "false",
            "yes",
            "no",
            "on",
            "1",
            "0",
            "None",
            "null",
            "NaN",
            "inf",
            "-inf",
            "1e400",
            "-0",
            "-0.0",
            "0x10",
            "1_0",
            "+1",
            "1.0",
            "1e3",
            "00",
            "auto",
            "main",
            "test",
            "vllm",
            "echo",
            "DEBUG",
            "json",
            "console",
            "chat",
            "alpaca",
        ],
        "\u0661",
        " 1",
        "1 ",
        "",
        " ",
    ]
)
NUMBERS = st.one_of(
    st.integers(-3, 5).map(str),
    st.floats().map(str),
    st.integers(0, 5000).map(lambda digits: "9" * digits),
    st.sampled_from([str(2**power + more) for power in (7, 15, 31, 32, 53, 63, 64, 128) for more in (-1, 0, 1)]),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
# Longer delays than these are what they say: a job that takes longer than a test has time.
SWITCHES = st.fixed_dictionaries(
    {},
    optional={
        "delay_seconds": st.sampled_from([0, 1e-3, -1, 1e300, 10**400, "1", None, True, 2**63]),
        "fail_every": st.sampled_from([0, 1, 2, -1, 10**30, 1.5, "2"]),
        "window": st.sampled_from([0, 1, 2, 10**30, -5, None]),
        "max_model_len": st.integers(),
        "hf_token": st.just(SECRET),
        "load_format": st.just("pt"),
    },
)
JSON_TEXT = st.one_of(
    st.one_of(JSON, st.lists(TEXT, max_size=4)).map(json.dumps),
    JSON.map(lambda value: json.dumps(value, ensure_ascii=False).replace("\0", "")),
    st.integers(1, 100_000).map(lambda depth: "[" * depth),
    st.integers(1, 3000).map(lambda depth: '{"a":' * depth + "1" + "}" * depth),
    st.sampled_from(
        ['["\\ud800"]', '{"a": NaN}', '{"a": 1, "a": 2}', "[1e400]", '{"": {}}', "[", '"', '{"a": 1}}', "[]", "{}", '[""]']
    ),
)
# Reading of them is allowed, writing to them or taking their digest as a whole is not: so nothing with a tree below it.
PATHS = st.sampled_from(
    [
        *[
            "rows.jsonl",
            "./rows.jsonl",
            "./folder",
            "folder/",
            "empty",
            "./loop",
            "fifo",
            "rows.jsonl/below",
            "/dev/null",
            "/dev/full",
            "/proc/self/nothing",
            "nothing",
            "~",
            "~/results",
            "~nobody-at-all/x",
            "folder/../rows.jsonl",
            "a/b",
            "a/..",
            "../",
            "..",
            ".",
            "./*.jsonl",
            "./[a].jsonl",
            "./{a}",
            "hf://a/b",
            "file:///etc",
        ],
        f"{HERE}/rows.jsonl",
        f"{HERE}/folder",
        f"{HERE}/link",
        f"{HERE}/dangling",
        f"{HERE}/fifo",
        "~root\udcff",
        "x" * 300,
        "y" * 5000,
        "./" + "z/" * 3000,
        "./ ",
        "./\n",
    ]
)
# Never a path that could lead out of the case's folder.
OUTPUTS = st.one_of(
    st.sampled_from(
        ["rows.jsonl", "folder", f"{HERE}/link", "./loop", f"{HERE}/dangling", "fifo", "rows.jsonl/below", "/dev/null"]
    )
    | st.sampled_from(["/proc/results", "~/results", "~nobody-at-all", "x" * 300, "z/" * 3000, ".", " ", "\n", "*", "a/b/c"]),
    SLASHED.filter(lambda text: ".." not in text and not text.startswith("~")),
)
HUB_NAMES = st.sampled_from(
    ["ana", "a" * 96, "a" * 97, "a--b", ".a", "a.", "a/b", "a/b/c", "a/", "/b", "a b", "ä", "a/" + "b" * 97, "a\n"]
)
ADDRESSES = st.sampled_from(
    [
        *[
            "http://127.0.0.1:9",
            "https://127.0.0.1:9",
            "http://127.0.0.1:99999",
            "http://127.0.0.1:-1",
            "http://[::1]:9",
            "http://[::1",
            "http://",
            "https:///",
            "127.0.0.1:9",
            "ftp://127.0.0.1",
            "HTTP://127.0.0.1:9",
            "http://127.0.0.1:9/hub/",
            "http://127.0.0.1:9#x",
            "http://127.0.0.1:9?x=1",
            "http://%31",
            "http://127.0.0.1:x",
            "http://.",
            "http://*",
        ],
        "http://127.0.0.1:9/ ",
        "http://127.0.0.1:9/\x7f",
        f"http://ana:{SECRET}@127.0.0.1:9",
        "http:// ",
        "http://\udcff",
        "http://ä.invalid:9",
        "http://" + "a" * 300 + ".invalid",
    ]
)
TOKENS = st.one_of(
    st.sampled_from(
        [f"hf_{SECRET}123", f" {SECRET}\n", f"{SECRET} {SECRET}", f"{SECRET}\udcff", f'"{SECRET}\\', f"{SECRET}é", "hf_", ""]
    ),
    st.text(LETTERS, max_size=8).map(lambda text: f"{SECRET}{text}"),
)
REPETITIONS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ["max_pattern_size", "min_pattern_size", "min_count"],
            st.integers(-1, 4) | st.sampled_from([10**30, 1.5, "2", True]),
        ),
        "size": st.integers(0, 3),
    },
)
_SPECIAL: dict[str, st.SearchStrategy[str]] = {
    "ENGINE": st.sampled_from(["echo", "vllm", "ECHO", "", "tgi"]),
    "ENGINE_ARGS": SWITCHES.map(json.dumps) | JSON_TEXT,
    "STOP": JSON_TEXT,
    "REPETITION_DETECTION": REPETITIONS.map(json.dumps) | JSON_TEXT,
    "DROP_COLUMNS": st.lists(st.sampled_from(["id", "instruction", "answers", "ï"]), max_size=3).map(",".join) | JSON_TEXT,
    "INSTRUCTION_COLUMN": st.sampled_from(["id", "instruction", "Instruction", "answers", " instruction", "tags"]),
    "PROMPT_TEMPLATE": st.sampled_from(["alpaca", "chat", "Alpaca", f"{HERE}/prompt.jinja"]) | PATHS,
    "DATASET_SPLIT": st.sampled_from(["train", "test", "all", "test[:1]", "a.b", "a..b", "ä", "1", "_", "test\n", "a" * 300]),
    "OUTPUT_DIR": OUTPUTS,
    "HUB_NAMESPACE": HUB_NAMES,
    "HUB_REPO_ID": HUB_NAMES,
    "HF_ENDPOINT": ADDRESSES,
    "HF_TOKEN": TOKENS,
    "MODEL_ID": st.sampled_from(["a/b", "m", "-", "a/b/c", "./empty", "a/" + "b" * 97, "datasets/a", "a/b@main"]) | PATHS,
    "LORA_ID": st.sampled_from(["a/b", "m", "./empty"]) | PATHS,
    "DATASET_ID": PATHS,
    "HF_HOME": OUTPUTS,
}
_PATH_LIKE = frozenset({"OUTPUT_DIR", "HF_HOME", "DATASET_ID", "MODEL_ID", "LORA_ID", "PROMPT_TEMPLATE"})
_FILES = (
    Put(
        "rows.jsonl",
        "file",
        b'{"instruction": "Say hello.", "id": 1, "tags": ["a"]}\n{"instruction": "Count.", "id": 2, "tags": []}\n',
    ),
    Put("prompt.jinja", "file", b"{{ instruction }}: {{ id }}"),
    Put("folder/test.jsonl", "file", b'{"instruction": "Name a colour."}\n'),
    Put("empty", "folder"),
    Put("link", "link", b"folder"),
    Put("loop", "link", b"loop"),
    Put("dangling", "link", b"nowhere"),
    Put("fifo", "fifo"),
)


def _bounds(annotation: Any, metadata: tuple[Any, ...]) -> list[float]:
    """The numbers that a variable's range is told by."""
    limits = [
        getattr(each, name)
        for each in metadata
        for kind, name in ((Ge, "ge"), (Gt, "gt"), (Le, "le"), (Lt, "lt"))
        if isinstance(each, kind)
    ]
    return limits if not isinstance(annotation, str) else []


def _near(limit: float) -> list[str]:
    return [str(limit), str(limit + 1), str(limit - 1), str(limit + 1e-9), str(limit - 1e-9), f"{limit}.0", f" {limit}"]


def _value(name: str, field: Any) -> st.SearchStrategy[str]:
    choices = [WORDS, NUMBERS]
    if name not in _PATH_LIKE:  # a path that is drawn letter by letter may be any
        choices.append(TEXT)
    elif name not in ("OUTPUT_DIR", "HF_HOME"):
        choices.append(SLASHED.filter(lambda text: text.strip(".") and not text.startswith("~")))
    if near := [text for limit in _bounds(field.annotation, tuple(field.metadata)) for text in _near(limit)]:
        choices += [st.sampled_from(near)] * 2
    if literals := [each for each in get_args(field.annotation) if isinstance(each, str)]:
        choices.append(st.sampled_from(literals))
    if (special := _SPECIAL.get(name)) is not None:
        choices += [special] * 3
    return st.one_of(choices)


_VALUES = {name: _value(name, audience.model_fields[name.lower()]) for audience, name in variables()}
_ASSIGNMENTS = st.sampled_from(sorted(_VALUES)).flatmap(lambda name: st.tuples(st.just(name), _VALUES[name]))
_MISSPELT = st.tuples(
    st.sampled_from(
        [
            "TEMPRATURE",
            "MODEL",
            "model_id",
            "Dataset_Id",
            "HF_TOKN",
            "OUTPUTDIR",
            "MODEL_IDS",
            "SEEED",
            "ÉNGINE",
        ]
    )
    | st.text(st.sampled_from("ABCDEFGHILMNOPRSTUVX_"), min_size=1, max_size=20).filter(lambda name: name not in _VALUES),
    TEXT | st.just(SECRET),
)
# Each is right by itself.
_TOGETHER = st.sampled_from(
    [
        (("SYSTEM_PROMPT", "Be brief."), ("PROMPT_TEMPLATE", "chat")),
        (("PUSH_TO_HUB", "true"),),
        (("PUSH_TO_HUB", "true"), ("HUB_NAMESPACE", "ana")),
        (("NUM_SAMPLES", "3"),),
        (("NUM_SAMPLES", "2"), ("TEMPERATURE", "0")),
        (("DRY_RUN", "true"),),
        (("ENGINE", "vllm"), ("MODEL_ID", "./empty")),
        (("DATASET_ID", "a/b"),),
        (("LOG_FORMAT", "console"),),
        (("LOG_LEVEL", "ERROR"),),
        (),
    ]
)


def cases() -> st.SearchStrategy[Case]:
    drawn = st.tuples(_TOGETHER, st.lists(_ASSIGNMENTS, max_size=5), st.lists(_MISSPELT, max_size=1))
    return drawn.map(lambda parts: Case("settings", (*parts[0], *parts[1], *parts[2]), _FILES))
