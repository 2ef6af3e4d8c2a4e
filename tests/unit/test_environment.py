"""How scripts read .env: as python-dotenv does, which a host with a container engine alone does not have."""

import io
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from job.settings import variables
from scripts.environment import known_names, layered, read

LINES = [
    "A=1",
    "export B = two words ",
    "C='it\\'s # one'  # a comment",
    'D="tab\\tline\\nend \\"quoted\\" \\\\ \\d"',
    'E="over\ntwo lines"',
    "F=a # comment",
    "G=a#none",
    "H= # empty",
    "I=#not empty",
    "J=",
    "K",
    "'L m'=n",
    "# M=1",
    "N=${A}",
    'O=["###", "\\n"]',
    "P='unterminated",
    "two words=1",
    "  Q=1\t",
    "A=again",
    "",
]


def as_dotenv_reads(text: str) -> dict[str, str]:
    return {name: value for name, value in dotenv_values(stream=io.StringIO(text), interpolate=False).items() if value}


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_a_line_is_read_as_dotenv_reads_it(line: str, end: str, env_file: Path) -> None:
    env_file.write_text(line + end, newline="")
    assert read(env_file) == as_dotenv_reads(line + end)


@given(st.lists(st.sampled_from(LINES)), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_lines_do_not_disturb_each_other(tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str) -> None:
    file = tmp_path_factory.mktemp("env") / ".env"
    text = "\ufeff" + end.join(line for line in lines if line != "P='unterminated")
    file.write_text(text, encoding="utf-8", newline="")
    assert read(file) == as_dotenv_reads(text)


def test_bytes_that_are_no_text_reach_the_job_as_they_are(env_file: Path) -> None:
    env_file.write_bytes(b"SYSTEM_PROMPT=\xff\n")
    assert read(env_file)["SYSTEM_PROMPT"].encode(errors="surrogateescape") == b"\xff"


def test_the_known_names_are_those_of_the_settings() -> None:
    assert known_names() == {name for _, name in variables()}


def test_an_empty_variable_of_the_loop_counts_as_unset() -> None:
    assert layered({"MODEL_IDS": "", "PARALLEL": "", "OTHER": ""}, {"MODEL_IDS": "a/b"}, {}) == {
        "MODEL_IDS": "a/b",
        "OTHER": "",
    }
