"""The values that cross the seams between stages. All frozen; positions are row numbers in the whole source split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

FinishReason = Literal["stop", "length", "repetition", "too_long", "error"]
Kind = Literal["model", "adapter", "dataset"]
RUNAWAYS: frozenset[FinishReason] = frozenset({"length", "repetition"})  # answers that the model did not end by itself
ANSWERED: frozenset[FinishReason] = RUNAWAYS | {"stop"}


@dataclass(frozen=True, slots=True)
class Source:
    """A model or dataset as it was found: its Hub id or path, and a Hub commit or "sha256:<digest of the local files>"."""

    name: str
    commit: str
    local: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the source: the columns that the prompt needs."""

    position: int
    columns: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A row made ready for the engine, or the reason why it cannot be answered.

    token_ids: what the engine is fed, special tokens included; tokens: how many there are (0 where there is no text).
    """

    position: int
    text: str | None
    token_ids: Sequence[int]
    tokens: int
    failure: "Failure | None" = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row has no answer: the reason for the results, and a sentence for people."""

    reason: Literal["too_long", "error"]
    message: str


@dataclass(frozen=True, slots=True)
class Request:
    """One answer to be generated: sample number `sample` of the row at `position`, drawn with `seed`.

    max_tokens: the longest it may be, where that is less than what the engine was opened with; None: as long as that.
    """

    position: int
    sample: int
    token_ids: Sequence[int]
    seed: int
    max_tokens: int | None = None

    def limit(self, max_tokens: int) -> int:
        """The longest that it may be, in tokens, in an engine that was opened with max_tokens."""
        return max_tokens if self.max_tokens is None else min(max_tokens, self.max_tokens)


@dataclass(frozen=True, slots=True)
class Completion:
    """One finished request. `text` is None exactly where there is no answer; `tokens` counts generated tokens."""

    position: int
    sample: int
    text: str | None
    finish_reason: FinishReason
    tokens: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ResultRow:
    """A row with all its samples, in sample order, as the journal keeps it."""

    position: int
    prompt: str | None
    prompt_tokens: int
    completions: tuple[Completion, ...]

    @property
    def answered(self) -> bool:
        return all(completion.finish_reason in ANSWERED for completion in self.completions)


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts over the finished rows of a run: rows by finish_reason (samples, where there are several), and tokens.

    runaway_tokens: of the completion tokens, those of runaways; lengths: answers (samples, where there are several) by their
    tokens; runaway_lengths: those of runaways among them, for each finish reason. There are at most MAX_MODEL_LEN different
    ones, however many rows there are.
    """

    rows: int
    failed_rows: int
    finish_reasons: Mapping[str, int]
    prompt_tokens: int
    completion_tokens: int
    runaway_tokens: int
    lengths: Mapping[int, int]
    runaway_lengths: Mapping[str, Mapping[int, int]] = field(default_factory=dict)  # not in manifests of before


@dataclass(frozen=True, slots=True)
class DataFile:
    """One parquet file of the results; `path` is relative to the results folder, `memory_bytes` its size when loaded."""

    path: str
    rows: int
    bytes: int
    memory_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Load:
    """Requests that an engine has, one for each sample of a row: those that it works on, and those that wait for that."""

    running: int = 0
    waiting: int = 0


ReadText = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a repository has at a commit.

    digests: of each file by its path, SHA-256 of LFS files and git's SHA-1 of the others; read: the text of a file, None where
    it is not there (raises ValueError where it is no text).
    """

    commit: str
    digests: Mapping[str, str]
    read: ReadText


@dataclass(frozen=True, slots=True)
class Part:
    """What a shard puts on the branch where shards meet: its data file, its manifest, each by its path there."""

    data_path: str
    data: Path
    sha256: str
    manifest_path: str
    manifest: str
    title: str


@dataclass(frozen=True, slots=True)
class Copies:
    """Data files of a release that the repository has already, at another commit or path: they are copied there, not sent.

    commit: where they are; sources: by the path in the release, the path there; digests: by the same, what the Hub calls them.
    """

    commit: str
    sources: Mapping[str, str]
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Release:
    """What is to be in a repository.

    folder: the results folder, whose layout is the repository's; files: its data files; images: their content by path; texts:
    the other files by path, given what is there; is_stale: whether a path belongs to an earlier release of the same split, to
    be removed unless it is in this one; run_id: goes into the title; copies: where the data files come from, None where they
    are in the folder.
    """

    folder: Path
    files: Sequence[DataFile]
    images: Mapping[str, bytes]
    texts: Callable[[Snapshot], Mapping[str, str]]
    is_stale: Callable[[str], bool]
    run_id: str
    copies: Copies | None = None

    @property
    def title(self) -> str:
        """The title of its commit."""
        return f"Answers of run {self.run_id}"


@dataclass(frozen=True, slots=True)
class Published:
    """Results on the Hub, verified: the repository, and the commit that has them."""

    repo_id: str
    commit: str


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run came to: the canonical log line and the caller's return value.

    folder: that of the results; a shard's own, where the whole is not on this machine. published: None where the results stay
    on this machine; missing_shards: those whose results are not there yet, so that the whole could not be put together; the
    tally is that of this shard then. budget: what the run cost, by name, as in its manifest; empty where nobody noted it.
    """

    model: str
    folder: Path
    tally: Tally
    generated_rows: int
    seconds: Mapping[str, float]
    published: Published | None = None
    missing_shards: Sequence[int] = ()
    budget: Mapping[str, Any] = field(default_factory=dict)
