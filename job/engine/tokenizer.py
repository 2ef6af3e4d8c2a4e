"""The model's tokenizer, from its folder or from the Hub: all of the model that prompts need, without any weights."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from job.errors import Problem, SettingsError

# Some chat templates print today's date. An answer must not depend on the day it was made on: this is the day that the
# Llama 3.1 template prints by itself.
FIXED_DATE = datetime(2024, 7, 26)  # noqa: DTZ001 (templates print the date alone)

UNTRUSTED = "comes with Python code of its own, which is not run: read that code, then set TRUST_REMOTE_CODE=true"
_RENDER_ERRORS = (jinja2.TemplateError, ArithmeticError, MemoryError, RecursionError)  # an endless or greedy template's too


class ModelTokenizer:
    """A transformers tokenizer behind the protocol of job.prompts."""

    def __init__(self, model_id: str, tokenizer: Any) -> None:
        self._model_id = model_id
        self._tokenizer = tokenizer
        bos = tokenizer.bos_token_id
        self.bos_token_id: int | None = bos if tokenizer("a")["input_ids"][:1] == [bos] else None

    def encode(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        if not texts:
            return []
        encoded = self._tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)
        ids: Sequence[Sequence[int]] = encoded["input_ids"]
        return ids

    def render_chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        if not self._tokenizer.chat_template:
            message = f"{self._model_id} has no chat template: use alpaca, or a Jinja file"
            raise SettingsError([Problem("PROMPT_TEMPLATE", "chat", message)])
        try:
            text: str = self._tokenizer.apply_chat_template(
                list(messages),
                tokenize=False,
                add_generation_prompt=True,
                date_string=FIXED_DATE.strftime("%d %b %Y"),
                strftime_now=FIXED_DATE.strftime,
            )
        except (*_RENDER_ERRORS, AttributeError, LookupError, TypeError) as error:
            raise ValueError(f"the chat template refuses the messages: {str(error) or type(error).__name__}") from error
        return text


def load_tokenizer(model_id: str, folder: Path, trust_remote_code: bool) -> ModelTokenizer:
    """Load the tokenizer of a model from its folder. model_id: what to call it.

    Raises: SettingsError where there is none that can be read.
    """
    from transformers import AutoTokenizer  # 2 s, and not needed where nothing is pending

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        if not trust_remote_code and "trust_remote_code" in str(error):
            raise SettingsError([Problem("MODEL_ID", model_id, UNTRUSTED)]) from error
        reason = " ".join(str(error).split())[:500]
        message = (
            f"its tokenizer cannot be loaded: {reason} Check that tokenizer.json and tokenizer_config.json are there, whole."
        )
        raise SettingsError([Problem("MODEL_ID", model_id, message)]) from error
    return ModelTokenizer(model_id, tokenizer)
