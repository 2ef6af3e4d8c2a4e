"""Row -> prompt text -> token ids. Text is never cut and never stripped; a prompt that does not fit is a failure of its row."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, time
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

import jinja2
import jinja2.filters
import jinja2.meta
import jinja2.runtime
from jinja2.sandbox import ImmutableSandboxedEnvironment

from job.bounds import OutOfTime, bounded
from job.errors import Problem, SettingsError
from job.files import read_text
from job.protocols import Tokenizer
from job.records import Failure, Prompt, Row
from job.settings import PromptSettings

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
BATCH_ROWS = 512
BUILT_IN = ("alpaca", "chat")
RENDER_SECONDS = 5.0  # of the processor, for one row: an answer must not depend on the machine, so beyond it the run ends
RENDER_BYTES = 512 * 2**20  # beyond what the process has
_LONGEST_INT = 2**16  # in bits; Python does not interrupt the arithmetic of longer ones
_ADDRESS = re.compile(r" at 0x[0-9a-f]+>")  # how Python shows an object that has no text of its own
_LARGEST_PRECISION = 400  # digits that `round` may be asked for: more than any float has


class Template(Protocol):
    """How a row becomes the text of a prompt."""

    @property
    def columns(self) -> Sequence[str]:
        """The columns that it reads."""

    @property
    def facts(self) -> Mapping[str, object]:
        """What identifies it, beyond the model's own files."""

    def render(self, row: Mapping[str, object], tokenizer: Tokenizer) -> str:
        """The text for a row.

        Raises: ValueError saying why this row has none.
        """


class AlpacaTemplate:
    """The Alpaca text around the instruction."""

    def __init__(self, column: str) -> None:
        self.columns = (column,)
        self.facts = {"template": "alpaca", "text": ALPACA}

    def render(self, row: Mapping[str, object], tokenizer: Tokenizer) -> str:
        return ALPACA.format(instruction=_text(row, self.columns[0]))


class ChatTemplate:
    """The instruction as the user's message, in the model's own chat template."""

    def __init__(self, column: str, system_prompt: str | None) -> None:
        self.columns = (column,)
        self.facts = {"template": "chat", "system_prompt": system_prompt}
        self._system = [{"role": "system", "content": system_prompt}] if system_prompt is not None else []

    def render(self, row: Mapping[str, object], tokenizer: Tokenizer) -> str:
        return tokenizer.render_chat([*self._system, {"role": "user", "content": _text(row, self.columns[0])}])


class JinjaTemplate:
    """A Jinja file that sees the row's columns; printing a null is an error of the row."""

    def __init__(self, path: Path, columns: Sequence[str], seconds: float = RENDER_SECONDS) -> None:
        """seconds: of the processor, that one prompt may take."""
        source = read_template(path)
        self._path, self._seconds = path, seconds
        environment = _Environment(
            undefined=jinja2.StrictUndefined, keep_trailing_newline=True, finalize=_printable, autoescape=False
        )
        for name in ("lipsum", *columns):  # chance has no place in a prompt, and a column comes before a function of its name
            environment.globals.pop(name, None)
        del environment.filters["random"]
        environment.filters["round"] = _rounded
        try:
            with self._bounded():
                names = jinja2.meta.find_undeclared_variables(environment.parse(source))
                self._template = environment.from_string(source)  # computes what is constant
        except SettingsError:
            raise
        except Exception as error:
            raise _template_problem(path, f"is no valid Jinja template: {_said(error)}") from error
        if unknown := sorted(names - set(columns)):
            raise _template_problem(path, f"uses {', '.join(unknown)}; the columns are: {', '.join(columns)}")
        self.columns = tuple(name for name in columns if name in names)
        self.facts = {"template": "jinja", "text": source}

    def render(self, row: Mapping[str, object], tokenizer: Tokenizer) -> str:
        try:
            with self._bounded():
                text = self._template.render(row)
                _check_no_address(text, row)
                return text
        except SettingsError:
            raise
        except Exception as error:
            raise ValueError(f"the template failed: {_said(error)}") from error

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        try:
            with bounded(self._seconds, RENDER_BYTES):
                yield
        except OutOfTime:
            message = f"takes more than {self._seconds:g} seconds for one prompt: is there a loop that does not end?"
            raise _template_problem(self._path, message) from None


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, without the arithmetic that nothing could break off."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            if bits > _LONGEST_INT:
                raise jinja2.TemplateRuntimeError(f"{operator} gives a number of more than {_LONGEST_INT} bits")
        return super().call_binop(context, operator, left, right)


def _rounded(value: float, precision: int = 0, method: Literal["common", "ceil", "floor"] = "common") -> float:
    """Jinja's own `round`, which takes ten to the power of its precision."""
    if abs(precision) > _LARGEST_PRECISION:
        raise jinja2.TemplateRuntimeError(f"round: {precision} is no number of digits")
    return jinja2.filters.do_round(value, precision, method)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def open_template(settings: PromptSettings, instruction_column: str, columns: Sequence[str]) -> Template:
    """The template that PROMPT_TEMPLATE names, for a dataset with these columns.

    Raises: SettingsError where a Jinja file is missing, invalid, or uses a variable that is no column.
    """
    if settings.prompt_template == "alpaca":
        return AlpacaTemplate(instruction_column)
    if settings.prompt_template == "chat":
        return ChatTemplate(instruction_column, settings.system_prompt)
    return JinjaTemplate(Path(settings.prompt_template), columns)


def prepare(rows: Iterable[Row], template: Template, tokenizer: Tokenizer, max_model_len: int) -> Iterator[Prompt]:
    """Prompts for the rows, in their order; max_model_len, in tokens, has to leave room for at least one token of answer."""
    stream = iter(rows)
    while batch := list(islice(stream, BATCH_ROWS)):
        texts = [_rendered(row, template, tokenizer) for row in batch]
        encoded = iter(encode([text for text in texts if isinstance(text, str)], tokenizer))
        for row, text in zip(batch, texts, strict=True):
            if isinstance(text, Failure):
                yield Prompt(row.position, None, (), 0, text)
            else:
                yield _fitted(row.position, text, next(encoded), max_model_len)


def encode(texts: Sequence[str], tokenizer: Tokenizer) -> Sequence[Sequence[int]]:
    """The token ids of texts as the engine is fed them."""
    return [with_bos(token_ids, tokenizer.bos_token_id) for token_ids in tokenizer.encode(texts)]


def with_bos(token_ids: Sequence[int], bos: int | None) -> Sequence[int]:
    """The ids with exactly one BOS in front, where the tokenizer uses one; a template may have written it already."""
    return token_ids if bos is None or token_ids[:1] == [bos] else [bos, *token_ids]


def _fitted(position: int, text: str, token_ids: Sequence[int], max_model_len: int) -> Prompt:
    tokens = len(token_ids)
    if not tokens:
        return Prompt(position, text, (), 0, Failure("error", "the prompt is empty"))
    if tokens >= max_model_len:
        message = f"the prompt has {tokens} tokens, which leaves no room for an answer in MAX_MODEL_LEN={max_model_len}"
        return Prompt(position, text, (), tokens, Failure("too_long", message))
    return Prompt(position, text, token_ids, tokens)


def _rendered(row: Row, template: Template, tokenizer: Tokenizer) -> str | Failure:
    try:
        text = template.render(row.columns, tokenizer)
        text.encode()  # a lone surrogate, such as a template can write, is no text
    except ValueError as error:
        return Failure("error", str(error).encode("utf-8", "backslashreplace").decode())
    return text


def _text(row: Mapping[str, object], column: str) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise ValueError(f"column {column} is null")
    return value


def _printable(value: object) -> object:
    """What a template may print: values of columns. Python's own objects print an address, another one in each process."""
    if value is None:
        raise ValueError("the template prints a null")
    if not isinstance(value, str | int | float | Decimal | date | time | list | dict | jinja2.Undefined):
        raise ValueError(f"the template prints a {type(value).__name__}, which is no value of a column")
    return value


def _check_no_address(text: str, row: Mapping[str, object]) -> None:
    """The same of an object that `_printable` does not see, in a list or joined to a text."""
    if found := next((each for each in _ADDRESS.findall(text) if each not in str(row)), None):
        raise ValueError(f"the template prints an object of Python (...{found}): are brackets or a filter `list` missing?")


def read_template(path: Path) -> str:
    """The text of a Jinja file. Raises: SettingsError where it cannot be read."""
    try:
        return read_text(path.expanduser(), "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _template_problem(path, f"is neither alpaca nor chat, and cannot be read as a Jinja file: {error}") from error


def _template_problem(path: Path, message: str) -> SettingsError:
    return SettingsError([Problem("PROMPT_TEMPLATE", str(path), message)])
