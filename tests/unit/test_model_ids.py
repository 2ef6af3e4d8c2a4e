import pytest

from scripts.model_ids import ModelId, parse


@pytest.mark.parametrize("text", ["org/a org/b@v2 folder/c", "org/a,org/b@v2,folder/c", "  org/a,\n\torg/b@v2 , folder/c,"])
def test_models_are_separated_by_spaces_or_commas_and_stay_in_order(text: str) -> None:
    assert parse(text) == [ModelId("org/a"), ModelId("org/b", "v2"), ModelId("folder/c")]


def test_a_revision_may_have_slashes() -> None:
    assert parse("org/a@refs/pr/1") == [ModelId("org/a", "refs/pr/1")]


def test_one_model_at_two_revisions_is_two_models() -> None:
    assert [str(model) for model in parse("org/a@v1 org/a@v2")] == ["org/a@v1", "org/a@v2"]


@pytest.mark.parametrize("text", ["", " ", ",", "\n"])
def test_a_list_without_a_model_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="MODEL_IDS: names no model"):
        parse(text)


@pytest.mark.parametrize("word", ["@", "@main", "org/a@", "org/a@v1@v2"])
def test_a_word_that_is_not_a_model_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="is not a model: write `id`, or `id@revision`"):
        parse(f"org/b {word}")


def test_a_model_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="MODEL_IDS: org/a@v1 is there twice"):
        parse("org/a@v1, org/b, org/a@v1")
