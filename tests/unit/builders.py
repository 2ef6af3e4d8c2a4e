"""Small makers of the values that the tests of several modules need."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from job.errors import Problem, SettingsError
from job.records import Completion, Failure, Kind, Part, Prompt, Published, Release, ResultRow, Snapshot, Source
from job.settings import Settings

COMMIT = "a" * 40
T = TypeVar("T")
# Ways out of a Jinja sandbox, of which some worked once: to Python's objects, to other files, to all memory.
SANDBOX_ESCAPES = (
    "{{ ''.__class__ }}",
    "{{ ''['__class__'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ ''|attr('__cl' ~ 'ass__') }}",
    "{{ ['']|sum(attribute='__class__') }}",
    "{{ ['']|selectattr('__class__')|list }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{0.__class__}'|attr('format')(1) }}",
    "{% set f = '{0.__class__}'.format %}{{ f(1) }}",
    "{{ '{x.__class__}'.format_map({'x': 1}) }}",
    "{{ namespace.__init__ }}",
    "{{ namespace()['__class__'] }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ joiner().__init__ }}",
    "{{ self.__init__ }}",
    "{{ self._TemplateReference__context }}",
    "{% macro f() %}{% endmacro %}{{ f._func.__globals__ }}",
    "{{ {}.update({1: 2}) }}",
    "{{ [1].append(2) }}",
    "{{ [1]|attr('pop')() }}",
    "{{ range(10 ** 6)|list }}",
    "{% include '/etc/hostname' %}",
    "{% import '/etc/hostname' as x %}",
    "{% from '/etc/hostname' import x %}",
    "{% extends '/etc/hostname' %}",
)
REQUIRED = {"MODEL_ID": "org/model", "DATASET_ID": "org/data"}


class FakeClock:
    """Seconds that go by when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


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


class FakeFiles:
    """Files of a model that nobody reads."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def check(self) -> None:
        pass

    def small_files(self) -> Path:
        raise AssertionError("nobody reads these files")

    all_files = small_files


class FakeHub:
    """Resolves every name to the same commit, and remembers what it was asked for."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[tuple[str, ...]] = []
        self._error = error

    def resolve(self, kind: Kind, repo_id: str, revision: str) -> Source:
        self._note(kind, repo_id, revision)
        return Source(repo_id, COMMIT, local=False)

    def files(self, kind: Kind, source: Source, *, any_format: bool) -> FakeFiles:
        return FakeFiles(source)

    def read(self, attempt: Callable[[], T], doing: str) -> T:
        return attempt()

    def check_target(self, repo_id: str) -> None:
        self._note("check_target", repo_id)

    def prepare_target(self, repo_id: str) -> None:
        self._note("prepare_target", repo_id)

    def look(self, repo_id: str, see: Callable[[Snapshot], T], branch: str | None = None) -> T | None:
        return None

    def contribute(self, repo_id: str, branch: str, part: Part, see: Callable[[Snapshot], T]) -> T:
        self._note("contribute", repo_id)
        return see(Snapshot(COMMIT, {}, lambda _: None))

    def remove_branch(self, repo_id: str, branch: str) -> None:
        self._note("remove_branch", repo_id)

    def publish(self, repo_id: str, release: Release, rows_of: Callable[[str], int], verified: str | None) -> Published:
        self._note("publish", repo_id)
        return Published(repo_id, COMMIT)

    def _note(self, *what: str) -> None:
        self.asked.append(what)
        if self._error:
            raise self._error


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
