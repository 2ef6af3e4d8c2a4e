import re
from collections.abc import Callable

import pytest
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from hypothesis import given
from hypothesis import strategies as st

from job import values

NAMES = ["a", "7", "_", "mlabonne", "Meta-Llama-3.1-8B-Instruct", "a.b", "a_-.b", "x" * 96, "__init__", "a.gitx"]
NO_NAMES = [
    "", "-", ".", "-a", "a-", ".a", "a.", "a--b", "a..b", "a/b", "a b", " a", "a\n", "é", "a+b", "x" * 97, "..",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_on_the_hub_is_taken_as_it_is(name: str) -> None:
    assert values.hub_name(name) == name
    validate_repo_id(f"ana/{name}")


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_text_that_is_no_name_on_the_hub_is_refused_with_the_rules(name: str) -> None:
    with pytest.raises(ValueError, match="is not a valid Hub name: 1 to 96 letters, digits"):
        values.hub_name(name)


@given(st.from_regex(re.compile(r"[\w.-]{1,100}", re.ASCII), fullmatch=True))
def test_a_name_that_is_taken_is_one_that_the_library_takes(name: str) -> None:
    try:
        values.hub_name(name)
    except ValueError:
        return
    if not name.endswith(".git"):
        validate_repo_id(f"ana/{name}")


@pytest.mark.parametrize("repo_id", ["ana/m", "mlabonne/TwinLlama-3.1-8B-results", f"{'n' * 96}/{'x' * 96}"])
def test_a_repository_is_namespace_and_name(repo_id: str) -> None:
    assert values.repo_id(repo_id) == repo_id


@pytest.mark.parametrize("repo_id", ["", "m", "a/b/c", "https://huggingface.co/ana/m", "datasets/ana/m"])
def test_a_repository_of_another_form_is_refused(repo_id: str) -> None:
    with pytest.raises(ValueError, match="is not of the form namespace/name"):
        values.repo_id(repo_id)


@pytest.mark.parametrize("repo_id", ["/m", "ana/", "-ana/m", "ana/two words", "ana/m.", "ana/m\n"])
def test_each_part_of_a_repository_has_to_be_a_name(repo_id: str) -> None:
    with pytest.raises(ValueError, match="is not a valid Hub name"):
        values.repo_id(repo_id)


@pytest.mark.parametrize(
    ("text", "names"),
    [("a", ("a",)), ("a, b", ("a", "b")), (" a  b,,c\n", ("a", "b", "c")), ("", ()), (" , ", ())],
)
def test_words_are_separated_by_commas_and_spaces(text: str, names: tuple[str, ...]) -> None:
    assert values.words(text) == names


@pytest.mark.parametrize(
    ("text", "stops"),
    [("###", ("###",)), (" ", (" ",)), ('["###", "\\n\\n"]', ("###", "\n\n")), (' ["a"]', ("a",)), ("[]", ())],
)
def test_stop_sequences_are_a_list_or_one_text(text: str, stops: tuple[str, ...]) -> None:
    assert values.stop_sequences(text) == stops


@pytest.mark.parametrize("text", ['["a"', '[""]', '["a", ""]', '["\\ud800"]', "[NaN]", "[" * 100_000])
def test_a_list_of_stop_sequences_that_is_of_no_use_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        values.stop_sequences(text)


@pytest.mark.parametrize("text", ["hf_abc\n", " hf_abc ", "hf_abc\r\n"])
def test_a_token_loses_the_space_around_it(text: str) -> None:
    assert values.access_token(text) == "hf_abc"


@pytest.mark.parametrize("text", ["hf a", "hf_a\nb", "hf_é", "", "  ", "hf_\0"])
def test_a_text_that_no_token_can_be_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match="holds a space or a character that no access token has") as caught:
        values.access_token(text)
    assert not text.strip() or text.strip() not in str(caught.value)


@pytest.mark.parametrize("convert", [values.words, values.stop_sequences, values.access_token, values.json_object])
def test_a_value_that_is_no_text_passes(convert: Callable[[object], object]) -> None:
    assert convert(None) is None
    assert convert(7) == 7


def test_a_token_that_is_too_short_is_refused_as_it_would_garble_every_line_of_the_log() -> None:
    for text in ("x", "false"):
        with pytest.raises(ValueError, match="is too short for an access token"):
            values.access_token(text)
    assert values.access_token("hf_abc\n") == "hf_abc"


def test_a_name_that_no_folder_can_have_is_refused() -> None:
    assert values.is_folder_name("a" * 200)
    assert not values.is_folder_name("a" * 201)
    assert not values.is_folder_name("é" * 101)
    with pytest.raises(ValueError, match="is not the name of a split"):
        values.split_name("a" * 240)
