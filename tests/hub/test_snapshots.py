"""The files of a model: which are fetched and when, and that no damaged or partial one is ever used."""

import os
from pathlib import Path

import pytest
from huggingface_hub import constants
from structlog.typing import EventDict

from job.errors import AccessError, HubUnavailableError, JobError, OutputError, SettingsError
from job.hub.cache import forget
from job.hub.snapshots import HubFiles
from job.protocols import ModelFiles
from job.records import Kind, Source
from tests.hub.conftest import Connect, FakeTime
from tests.hub_clients import TOKEN
from tests.hub_server import CorruptDownload, CutAnswer, Fault, HubServer, Repository, Reset, Status, Truncate

Files = dict[str, str | bytes]
SMALL: Files = {"config.json": "{}", "tokenizer.json": '{"model": {}}', "README.md": "# A model\n"}
SHARDS: Files = {f"model-0000{number}-of-00002.safetensors": os.urandom(3000) for number in (1, 2)}
OTHER: Files = {
    "pytorch_model.bin": os.urandom(500),
    "model-q4.gguf": os.urandom(500),
    "original/consolidated.00.pth": os.urandom(500),
    "original/params.json": "{}",
    "consolidated.safetensors": os.urandom(500),
    "onnx/model.onnx": os.urandom(500),
}
WANTED = {".gitattributes", *SMALL, *SHARDS}
STORAGE = "/objects/"


@pytest.fixture
def model(hub: HubServer) -> Repository:
    return hub.add_repo("model", "ana/m", files=SMALL | SHARDS | OTHER)


def files_of(
    connect: Connect,
    server: HubServer | str,
    commit: str,
    *,
    token: str | None = TOKEN,
    any_format: bool = False,
    kind: Kind = "model",
) -> ModelFiles:
    return connect(server, token).files(kind, Source("ana/m", commit, local=False), any_format=any_format)


@pytest.fixture
def files(hub: HubServer, model: Repository, connect: Connect) -> ModelFiles:
    return files_of(connect, hub, model.head())


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names(folder)}


def refusal(files: ModelFiles) -> JobError:
    with pytest.raises(JobError) as caught:
        files.check()
    return caught.value


def test_the_small_files_come_first_and_the_weights_later(files: ModelFiles, model: Repository, hub: HubServer) -> None:
    files.check()
    assert not hub.seen("GET", "/resolve/|/objects/")
    folder = files.small_files()
    assert names(folder) == WANTED - set(SHARDS)
    assert not hub.seen("GET", STORAGE)
    assert files.all_files() == folder
    assert names(folder) == WANTED
    expected = model.files()
    assert contents(folder) == {name: expected[name] for name in WANTED}


def test_another_format_is_fetched_where_it_is_asked_for_but_not_as_a_small_file(
    hub: HubServer, model: Repository, connect: Connect
) -> None:
    files = files_of(connect, hub, model.head(), any_format=True)
    files.check()
    assert names(files.small_files()) == WANTED - set(SHARDS)
    assert names(files.all_files()) == WANTED | set(OTHER)


def test_what_was_fetched_is_logged(files: ModelFiles, events: list[EventDict]) -> None:
    files.small_files()
    files.all_files()
    files.all_files()
    fetched = [(event["repo_id"], event["files"], event["bytes"]) for event in events if event["event"] == "files_fetched"]
    assert fetched == [("ana/m", 4, fetched[0][2]), ("ana/m", 2, 6000)]


def test_a_pinned_model_in_the_cache_needs_no_request(files: ModelFiles, hub: HubServer) -> None:
    files.small_files()
    files.all_files()
    before = len(hub.requests)
    files.check()
    files.small_files()
    files.all_files()
    assert len(hub.requests) == before


def test_a_pinned_model_in_the_cache_needs_no_hub(
    files: ModelFiles, hub: HubServer, model: Repository, connect: Connect
) -> None:
    folder = files.all_files()
    hub.stop()
    again = files_of(connect, hub, connect(hub).resolve("model", "ana/m", model.head()).commit)
    again.check()
    assert again.small_files() == again.all_files() == folder


def test_a_branch_in_the_cache_costs_exactly_one_request(
    files: ModelFiles, hub: HubServer, model: Repository, connect: Connect
) -> None:
    files.all_files()
    before = len(hub.requests)
    again = files_of(connect, hub, connect(hub).resolve("model", "ana/m", "main").commit)
    again.check()
    again.small_files()
    again.all_files()
    assert len(hub.requests) == before + 1


def test_a_new_commit_fetches_only_what_changed(hub: HubServer, model: Repository, connect: Connect) -> None:
    files_of(connect, hub, model.head()).all_files()
    commit = model.commit({"config.json": '{"a": 1}'})
    before = len(hub.requests)
    folder = files_of(connect, hub, commit).all_files()
    assert (folder / "config.json").read_text() == '{"a": 1}'
    assert [
        seen.path.rpartition("/")[2] for seen in hub.requests[before:] if seen.method == "GET" and "resolve" in seen.path
    ] == ["config.json"]
    assert names(folder) == WANTED


FAULTS: dict[str, Fault] = {
    "503": Status(503),
    "429": Status(429, {"Retry-After": "1"}),
    "reset at once": Reset(),
    "reset in the middle": CutAnswer(1000, reset=True),
    "closed in the middle": CutAnswer(1000),
    "too short": Truncate(1000),
    "damaged": CorruptDownload(),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("path", [STORAGE, "/resolve/.*/tokenizer.json"])
def test_a_download_that_fails_is_done_again(
    files: ModelFiles, hub: HubServer, model: Repository, fault: str, path: str
) -> None:
    hub.fail(FAULTS[fault], method="GET", path=path, times=2)
    folder = files.all_files()
    expected = model.files()
    assert contents(folder) == {name: expected[name] for name in WANTED}


@pytest.mark.parametrize("fault", ["503", "reset at once"])
def test_a_listing_that_fails_is_done_again(files: ModelFiles, hub: HubServer, fault: str) -> None:
    hub.fail(FAULTS[fault], path="/tree/", times=2)
    hub.fail(FAULTS[fault], method="HEAD", times=2)
    files.check()
    assert names(files.all_files()) == WANTED


@pytest.mark.parametrize("path", [STORAGE, "/resolve/.*/config.json"])
def test_a_file_that_is_damaged_each_time_is_never_left_in_the_cache(
    files: ModelFiles, hub: HubServer, model: Repository, cache: Path, time: FakeTime, events: list[EventDict], path: str
) -> None:
    rule = hub.fail(CorruptDownload(), method="GET", path=path, times=None)
    with pytest.raises(HubUnavailableError, match=r"MODEL_ID=ana/m: .* came damaged from the Hub\. Try again later\."):
        files.all_files()
    assert rule.hits > 3
    assert time.now < 600
    assert events[0]["event"] == "hub_retry"
    hub.recover()
    expected = {content for name, content in model.files().items() if name in WANTED}
    assert {path.read_bytes() for path in cache.glob("*/blobs/*")} <= expected
    assert contents(files.all_files()).keys() == WANTED


def test_of_several_damaged_files_the_slow_ones_are_found_too(hub: HubServer, connect: Connect, cache: Path) -> None:
    """The attempt may be the last one, and the next process would use what it finds in the cache."""
    quick: Files = {f"quick-{number}.safetensors": os.urandom(100) for number in range(9)}
    weights = quick | {"slow.safetensors": os.urandom(32_000_000)}
    model = hub.add_repo("model", "ana/m", files=SMALL | weights)
    hub.fail(CorruptDownload(), method="GET", path=STORAGE, times=None)
    with pytest.raises(HubUnavailableError, match="came damaged"):
        files_of(connect, hub, model.head()).all_files()
    left = {path.name for path in cache.glob("*/blobs/*")}
    assert not left & {model.file(name).content_id for name in weights}


def test_a_damaged_file_is_found_although_another_one_failed(files: ModelFiles, hub: HubServer, model: Repository) -> None:
    """In the next attempt it is in the cache already."""
    first, second = SHARDS
    damaged = hub.fail(CorruptDownload(), method="GET", path=f"/objects/.*{model.file(first).content_id}")
    failing = hub.fail(Status(503), method="GET", path=f"/objects/.*{model.file(second).content_id}", times=2)
    folder = files.all_files()
    assert (damaged.hits, failing.hits) == (1, 2)
    assert contents(folder)[first] == SHARDS[first]


def test_a_part_of_a_snapshot_is_not_taken_for_all_of_it(
    hub: HubServer, model: Repository, connect: Connect, cache: Path
) -> None:
    """Another program fetched one file; the Hub fails after it listed all: the library then gives the folder as it is."""
    connected = connect(hub)
    connected.api.hf_hub_download("ana/m", "config.json", revision=model.head())
    hub.fail(Status(503), path="/tree/", times=6, skip=1)
    folder = files_of(connect, hub, model.head()).small_files()
    assert len(hub.seen("GET", "/tree/")) > 7
    assert names(folder) == WANTED - set(SHARDS)


@pytest.mark.parametrize("fault", [Status(503), Status(500), Reset(), Status(200, body="<html>a proxy's page</html>")])
@pytest.mark.parametrize("path", ["", "/resolve/"])
def test_an_outage_with_a_pinned_model_is_an_outage(
    files: ModelFiles, hub: HubServer, time: FakeTime, fault: Fault, path: str
) -> None:
    """Whatever the library makes of it: it is not the user's mistake."""
    hub.fail(fault, path=path, times=None)
    error = refusal(files)
    assert type(error) is HubUnavailableError
    assert str(error).startswith("MODEL_ID=ana/m: ")
    assert time.now < 300  # the waits of the library's threads add up here


def test_an_outage_before_the_weights_is_not_waited_for_all_day(files: ModelFiles, hub: HubServer, time: FakeTime) -> None:
    files.small_files()
    hub.fail(Status(503), times=None)
    with pytest.raises(HubUnavailableError, match="503"):
        files.all_files()
    assert 60 < time.now < 1200


def test_a_hub_that_is_down_with_a_pinned_model_is_an_outage(hub: HubServer, model: Repository, connect: Connect) -> None:
    files = files_of(connect, hub, model.head())
    hub.stop()
    assert type(refusal(files)) is HubUnavailableError


@pytest.mark.parametrize("token", [None, "hf_bob"])
@pytest.mark.parametrize("tls", [False, True])
def test_a_gated_model_at_a_full_commit_asks_for_its_terms(
    request: pytest.FixtureRequest, connect: Connect, token: str | None, tls: bool
) -> None:
    """Its commit needs no look-up, so the first to notice is the check of its files."""
    server: HubServer = request.getfixturevalue("secure" if tls else "plain")
    server.add_user("bo", token="hf_bob")
    commit = server.add_repo("model", "ana/m", files=SMALL | SHARDS, gated="manual").head()
    source = connect(server, token).resolve("model", "ana/m", commit)
    assert not server.requests
    error = refusal(files_of(connect, server, source.commit, token=token))
    assert type(error) is AccessError
    assert "MODEL_ID=ana/m: is gated. Accept its terms on its page" in str(error)


def test_a_gated_model_is_fetched_by_those_who_were_let_in(hub: HubServer, connect: Connect) -> None:
    hub.add_user("bo", token="hf_bob")
    model = hub.add_repo("model", "ana/m", files=SMALL | SHARDS, gated="manual")
    model.granted.add("bo")
    files = files_of(connect, hub, model.head(), token="hf_bob")
    files.check()
    assert names(files.all_files()) == WANTED


@pytest.mark.parametrize("name", ["private", "missing"])
@pytest.mark.parametrize("token", [None, "hf_bob"])
def test_a_model_that_is_not_there_for_us_is_named(secure: HubServer, connect: Connect, name: str, token: str | None) -> None:
    secure.add_user("bo", token="hf_bob")
    commit = "0" * 40
    if name == "private":
        commit = secure.add_repo("model", "ana/m", files=SMALL | SHARDS, private=True).head()
    error = refusal(files_of(connect, secure, commit, token=token))
    assert type(error) is SettingsError
    assert "MODEL_ID='ana/m': no model of this name on the Hub" in str(error)


def test_a_commit_that_is_not_there_is_named(hub: HubServer, model: Repository, connect: Connect) -> None:
    error = refusal(files_of(connect, hub, "0" * 40))
    assert type(error) is SettingsError
    assert str(error) == f"MODEL_ID='ana/m': has no commit {'0' * 40}"


@pytest.mark.parametrize(
    ("kind", "files", "message"),
    [
        ("model", SHARDS, "MODEL_ID='ana/m': has no config.json at {commit}, which every model has"),
        ("adapter", SMALL | SHARDS, "LORA_ID='ana/m': has no adapter_config.json at {commit}, which every adapter has"),
        ("model", SMALL | {"pytorch_model.bin": "x"}, "MODEL_ID='ana/m': has no weights (*.safetensors). Those in"),
        ("model", SMALL | {"heads/model.safetensors": "x", "model.pth": "x"}, "MODEL_ID='ana/m': has no weights (*.safeten"),
        (
            "adapter",
            {"adapter_config.json": "{}", "adapter_model.bin": "x", "other.safetensors": "x"},
            "LORA_ID='ana/m': has no adapter_model.safetensors. Weights in adapter_model.bin can run code",
        ),
    ],
)
def test_a_repository_that_is_no_model_is_refused(
    hub: HubServer, connect: Connect, kind: Kind, files: Files, message: str
) -> None:
    commit = hub.add_repo("model", "ana/m", files=files).head()
    error = refusal(files_of(connect, hub, commit, kind=kind))
    assert type(error) is SettingsError
    assert message.format(commit=commit) in str(error)
    if "weights" in message:
        files_of(connect, hub, commit, any_format=True).check()


def test_a_model_that_does_not_fit_on_the_disk_is_refused(files: ModelFiles, hub: HubServer, cache: Path) -> None:
    size, name = 10**18, next(iter(SHARDS))
    head = {
        "X-Repo-Commit": files.source.commit,
        "X-Linked-Etag": '"0"',
        "X-Linked-Size": str(size),
        "Location": f"{hub.storage_url}/x",
    }
    hub.fail(Status(302, head), method="HEAD", path=name, times=None)
    error = refusal(files)
    assert type(error) is OutputError
    assert f"{cache}: 1000000000.0 GB of ana/m are to be downloaded" in str(error)
    assert "Make room, or set HF_HOME to a folder with more." in str(error)
    hub.recover()
    files.check()


@pytest.fixture
def cache_below_a_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_text("in the way")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))


def test_a_cache_that_cannot_be_written_is_refused(files: ModelFiles, cache: Path, cache_below_a_file: None) -> None:
    error = refusal(files)
    assert type(error) is OutputError
    assert f"{cache / 'hub'}: Not a directory. Make room there, or set HF_HOME to a folder that can be written." in str(error)
    for fetch in (files.small_files, files.all_files):
        with pytest.raises(OutputError, match="HF_HOME"):
            fetch()


def test_a_cache_that_is_a_file_is_refused(files: ModelFiles, cache: Path) -> None:
    cache.write_text("in the way")
    assert type(refusal(files)) is OutputError
    with pytest.raises(OutputError, match="HF_HOME"):
        files.all_files()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_full_cache_is_enough_offline(files: ModelFiles, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = files.all_files()
    before = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    files.check()
    assert files.small_files() == files.all_files() == folder
    assert len(hub.requests) == before


@pytest.mark.parametrize("cached", [False, True])
def test_offline_what_is_not_in_the_cache_is_said_to_be_so(
    files: ModelFiles, hub: HubServer, time: FakeTime, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    if cached:
        files.small_files()
    before = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for ask in (files.check, files.all_files):
        with pytest.raises(SettingsError, match="HF_HUB_OFFLINE='1': is set, and MODEL_ID=ana/m needs the Hub, or a cache"):
            ask()
    assert len(hub.requests) == before
    assert time.now == 0


def test_offline_a_branch_cannot_be_looked_up(hub: HubServer, connect: Connect, time: FakeTime, offline: None) -> None:
    with pytest.raises(SettingsError, match="HF_HUB_OFFLINE='1': is set, and MODEL_ID=ana/m needs the Hub"):
        connect(hub).resolve("model", "ana/m", "main")
    assert time.now == 0


def test_a_commit_is_forgotten_without_those_beside_it(
    hub: HubServer, model: Repository, connect: Connect, cache: Path
) -> None:
    first = model.head()
    second = model.commit({"config.json": '{"a": 1}'})
    for commit in (first, second):
        files_of(connect, hub, commit).all_files()
    forget(second)
    assert [path.name for path in cache.glob("*/snapshots/*")] == [first]
    before = len(hub.requests)
    assert names(files_of(connect, hub, first).all_files()) == WANTED
    assert len(hub.requests) == before


def test_to_forget_where_there_is_no_cache_is_no_error() -> None:
    forget("0" * 40)


def test_the_job_hands_out_these_files(files: ModelFiles) -> None:
    assert isinstance(files, HubFiles)
    assert files.source.name == "ana/m"
