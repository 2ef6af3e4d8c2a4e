"""Small makers of the values that the tests of several modules need."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from job.errors import Problem, SettingsError
from job.records import Completion, Failure, Prompt, ResultRow
from job.settings import Settings

REQUIRED = {"MODEL_ID": "org/model", "DATASET_ID": "org/data"}


def settings(**variables: object) -> Settings:
    """Settings from the two required variables and these."""
    return Settings.from_env(REQUIRED | {name: str(value) for name, value in variables.items()})


def problems_of(environ: Mapping[str, str]) -> tuple[Problem, ...]:
    """What is wrong with an environment; nothing, where it makes settings."""
    try:
        Settings.from_env(environ)
    except SettingsError as error:
        return error.problems
    return ()


def problems(**variables: object) -> dict[str, str]:
    """What is wrong with these variables: the whole sentence by variable."""
    environ = REQUIRED | {name: str(value) for name, value in variables.items()}
    return {problem.variable: str(problem) for problem in problems_of(environ)}


def answered(position: int, *texts: str, prompt: str | None = "a prompt") -> ResultRow:
    """A finished row with one answer for each text."""
    done = tuple(Completion(position, sample, text, "stop", 7) for sample, text in enumerate(texts or ("an answer",)))
    return ResultRow(position, prompt, 3, done)


def failed(position: int, error: str = "it broke") -> ResultRow:
    return ResultRow(position, "a prompt", 3, (Completion(position, 0, None, "error", 0, error),))


def prompt(position: int, failure: Failure | None = None) -> Prompt:
    return Prompt(position, f"prompt {position}", [position, 1, 2], 3, failure)


def template_file(folder: Path, source: str) -> Path:
    path = folder / "prompt.jinja"
    path.write_text(source, encoding="utf-8")
    return path


class LetterTokenizer:
    """Every character is a token; id 1 is the BOS, where there is one."""

    def __init__(self, bos_token_id: int | None = None) -> None:
        self.bos_token_id = bos_token_id

    def encode(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        return [[ord(letter) for letter in text] for text in texts]

    def render_chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        if any("forbidden" in message["content"] for message in messages):
            raise ValueError("the template refuses it")
        return "".join(f"<{message['role']}>{message['content']}" for message in messages)
