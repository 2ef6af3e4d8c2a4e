from pathlib import Path
from typing import Any

import pytest

from job.engine.tokenizer import ModelTokenizer, load_tokenizer
from job.errors import SettingsError
from job.prompts import ChatTemplate, prepare
from job.records import Row

CHAT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<s>{{ strftime_now('%d %b %Y') }}|{{ date_string }}|"
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def _made(folder: Path, chat_template: str | None, puts_bos: bool) -> Path:
    """A real tokenizer of single bytes: "<s>" is 0, "</s>" is 1, the bytes follow."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<s>": 0, "</s>": 1}
    vocabulary |= {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()), start=2)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if puts_bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast: Any = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = chat_template
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def with_bos(tmp_path_factory: pytest.TempPathFactory) -> ModelTokenizer:
    return load_tokenizer("org/model", _made(tmp_path_factory.mktemp("bos"), CHAT, puts_bos=True), trust_remote_code=False)


@pytest.fixture(scope="module")
def without_bos(tmp_path_factory: pytest.TempPathFactory) -> ModelTokenizer:
    return load_tokenizer("org/model", _made(tmp_path_factory.mktemp("none"), None, puts_bos=False), trust_remote_code=False)


def test_the_bos_is_known_where_the_tokenizer_puts_one(with_bos: ModelTokenizer) -> None:
    assert with_bos.bos_token_id == 0


def test_there_is_no_bos_where_the_tokenizer_puts_none(without_bos: ModelTokenizer) -> None:
    assert without_bos.bos_token_id is None


def test_text_is_encoded_as_written(with_bos: ModelTokenizer) -> None:
    one, two, three, four = with_bos.encode(["ab", "<s>a", "", "é"])
    assert one == [two[1], one[1]]
    assert two[0] == 0
    assert three == []
    assert len(four) == 2


def test_no_texts_have_no_tokens(with_bos: ModelTokenizer) -> None:
    assert with_bos.encode([]) == []


def test_a_chat_ends_where_the_answer_begins_and_has_a_fixed_date(with_bos: ModelTokenizer) -> None:
    text = with_bos.render_chat([{"role": "user", "content": "Hi."}])
    assert text == "<s>26 Jul 2024|26 Jul 2024|user: Hi.\nassistant: "


def test_a_chat_has_exactly_one_bos(with_bos: ModelTokenizer) -> None:
    (prompt,) = prepare([Row(0, {"q": "Hi."})], ChatTemplate("q", None), with_bos, 1000)
    assert list(prompt.token_ids).count(0) == 1
    assert prompt.token_ids[0] == 0


def test_messages_that_the_template_refuses_are_an_error_of_the_row(with_bos: ModelTokenizer) -> None:
    with pytest.raises(ValueError, match="the chat template refuses the messages: System role not supported"):
        with_bos.render_chat([{"role": "system", "content": "Be brief."}])
    (prompt,) = prepare([Row(0, {"q": "Hi."})], ChatTemplate("q", "Be brief."), with_bos, 1000)
    assert prompt.failure is not None
    assert "System role not supported" in prompt.failure.message


def test_a_model_without_a_chat_template_is_a_settings_error(without_bos: ModelTokenizer) -> None:
    with pytest.raises(SettingsError) as caught:
        without_bos.render_chat([{"role": "user", "content": "Hi."}])
    (problem,) = caught.value.problems
    assert (problem.variable, problem.value) == ("PROMPT_TEMPLATE", "chat")
    assert problem.message.endswith("has no chat template: use alpaca, or a Jinja file")


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"config.json": '{"model_type": "llama"}'},
        {"tokenizer.json": "garbage", "tokenizer_config.json": '{"tokenizer_class": "PreTrainedTokenizerFast"}'},
        {"tokenizer.json": "{}", "tokenizer_config.json": '{"tokenizer_class": "PreTrainedTokenizerFast"}'},
        {"tokenizer.json": "{}", "tokenizer_config.json": "[]"},
    ],
)
def test_a_folder_without_a_tokenizer_is_a_settings_error(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_tokenizer("org/model", tmp_path, trust_remote_code=False)
    assert str(caught.value).startswith("MODEL_ID='org/model': its tokenizer cannot be loaded: ")
