import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from job.engine.tokenizer import ModelTokenizer, load_tokenizer
from job.errors import SettingsError
from job.prompts import ChatTemplate, prepare
from job.records import Row
from tests.unit.builders import SANDBOX_ESCAPES

pytestmark = pytest.mark.slow  # transformers brings torch: some seconds until both are imported

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


def _renders(folder: Path, source: str) -> str:
    """A chat in a chat template that came with a model."""
    tokenizer = load_tokenizer("org/model", _made(folder, source, puts_bos=False), trust_remote_code=False)
    return tokenizer.render_chat([{"role": "user", "content": "Hi."}])


@pytest.mark.parametrize("source", SANDBOX_ESCAPES)
def test_a_chat_template_cannot_leave_its_sandbox(tmp_path: Path, source: str) -> None:
    """It is text of strangers. What is forbidden is refused, or printed as nothing."""
    text = ""
    with suppress(ValueError):
        text = _renders(tmp_path, source)
    assert re.fullmatch(r"[\s\[\]]*", text)


@pytest.mark.parametrize("source", ["{{ 'a' * 10 ** 16 }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"])
def test_a_chat_template_that_takes_all_there_is_is_an_error_of_the_row(tmp_path: Path, source: str) -> None:
    with pytest.raises(ValueError, match=r"the chat template refuses the messages: (MemoryError|maximum recursion)"):
        _renders(tmp_path, source)


def test_code_that_comes_with_a_tokenizer_runs_only_where_it_is_trusted(tmp_path: Path) -> None:
    mark = tmp_path / "it-ran"
    folder = _made(tmp_path / "model", None, puts_bos=False)
    facts = json.loads((folder / "tokenizer_config.json").read_text())
    facts |= {"tokenizer_class": "Theirs", "auto_map": {"AutoTokenizer": [None, "theirs.Theirs"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))
    (folder / "theirs.py").write_text(
        "from pathlib import Path\n"
        "from transformers import PreTrainedTokenizerFast\n"
        f"Path({str(mark)!r}).touch()\n"
        "class Theirs(PreTrainedTokenizerFast):\n    pass\n"
    )
    with pytest.raises(SettingsError, match="not run: read that code, then set TRUST_REMOTE_CODE=true"):
        load_tokenizer("org/model", folder, trust_remote_code=False)
    assert not mark.exists()
    assert type(load_tokenizer("org/model", folder, trust_remote_code=True)._tokenizer).__name__ == "Theirs"
    assert mark.exists()


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
