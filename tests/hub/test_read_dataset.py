"""The rows of a dataset on the Hub through `datasets`: its errors mislead, and its cache is not to be believed."""

import io
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from structlog.typing import EventDict

from job.dataset import SourceRows, open_rows
from job.errors import AccessError, DatasetError, HubUnavailableError, JobError, SettingsError, StoppedError
from job.records import Source
from job.settings import DataSettings
from tests.hub.conftest import Connect, FakeStop, FakeTime
from tests.hub_clients import TOKEN
from tests.hub_server import CorruptDownload, CutAnswer, Fault, HubServer, Repository, Reset, Status, Truncate

CARD = "---\nlicense: mit\n---\n# Rows\n"
PAGE = "<html>a proxy's page</html>"
Open = Callable[..., SourceRows]


def parquet(*instructions: str) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"instruction": list(instructions)}), file)
    return file.getvalue()


FILES: dict[str, str | bytes] = {"README.md": CARD, "data/test-00000-of-00001.parquet": parquet("a", "b")}


@pytest.fixture(autouse=True)
def _datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)  # as the job's process has it
    datasets.disable_progress_bars()


@pytest.fixture
def repository(hub: HubServer) -> Repository:
    return hub.add_repo("dataset", "ana/d", files=FILES)


@pytest.fixture
def opened(connect: Connect) -> Open:
    """Opens the dataset at a commit, as a run does."""

    def open_at(server: HubServer, commit: str, token: str | None = TOKEN, **variables: str) -> SourceRows:
        connected = connect(server, token)
        settings = DataSettings.from_env({"DATASET_ID": "ana/d"} | variables)
        source = Source("ana/d", commit, local=False)
        return open_rows(settings, source, token, lambda attempt: connected.read(attempt, "DATASET_ID=ana/d"))

    return open_at


def instructions(rows: SourceRows) -> list[object]:
    return [row.columns["instruction"] for row in rows]


def refusal(call: Callable[[], object]) -> JobError:
    with pytest.raises(JobError) as caught:
        call()
    return caught.value


def test_the_rows_of_a_commit_are_read(hub: HubServer, repository: Repository, opened: Open) -> None:
    first = repository.head()
    second = repository.commit({"data/test-00000-of-00001.parquet": parquet("c")})
    assert instructions(opened(hub, first)) == ["a", "b"]
    assert instructions(opened(hub, second)) == ["c"]
    assert instructions(opened(hub, first)) == ["a", "b"]


def test_a_private_dataset_is_read_with_the_token(hub: HubServer, opened: Open) -> None:
    commit = hub.add_repo("dataset", "ana/d", files=FILES, private=True).head()
    assert instructions(opened(hub, commit)) == ["a", "b"]


OUTAGES: dict[str, tuple[Fault, str | None, str]] = {
    "503 on each HEAD": (Status(503), "HEAD", ""),
    "503 on everything": (Status(503), None, ""),
    "503 on the trees": (Status(503), None, "/tree/"),
    "503 on the data": (Status(503), "GET", "/objects/"),
    "429 on everything": (Status(429), None, ""),
    "reset of everything": (Reset(), None, ""),
    "reset in the data": (CutAnswer(20, reset=True), "GET", "/objects/"),
    "data too short": (Truncate(20), "GET", "/objects/"),
    "a page for the trees": (Status(200, body=PAGE), None, "/tree/"),
    "a page for everything": (Status(200, body=PAGE), None, ""),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_that_lasts_is_an_outage_and_not_a_missing_dataset(
    hub: HubServer, repository: Repository, opened: Open, time: FakeTime, outage: str
) -> None:
    fault, method, path = OUTAGES[outage]
    hub.fail(fault, method=method, path=path, times=None)
    error = refusal(lambda: opened(hub, repository.head()))
    assert type(error) is HubUnavailableError
    assert str(error).startswith("DATASET_ID=ana/d: the Hub ")
    assert 30 < time.now < 400


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_that_passes_is_waited_for(
    hub: HubServer, repository: Repository, opened: Open, outage: str, events: list[EventDict]
) -> None:
    fault, method, path = OUTAGES[outage]
    hub.fail(fault, method=method, path=path, times=8)
    assert instructions(opened(hub, repository.head())) == ["a", "b"]
    assert {event["event"] for event in events} == {"hub_retry"}


TEXT = '{"instruction": "aaaa"}\n' * 101  # one byte in the middle is changed: another text, or none that is UTF-8


@pytest.mark.parametrize("files", [FILES, {"README.md": CARD, "test.jsonl": TEXT}])
def test_a_data_file_that_is_damaged_once_is_fetched_again(
    hub: HubServer, opened: Open, files: dict[str, str | bytes], events: list[EventDict]
) -> None:
    commit = hub.add_repo("dataset", "ana/d", files=files).head()
    rule = hub.fail(CorruptDownload(), method="GET", path="/objects/|jsonl")
    read = instructions(opened(hub, commit))
    assert read in (["a", "b"], ["aaaa"] * 101)
    assert rule.hits == 1
    assert ["came damaged from the Hub" in event["error"] for event in events] == [True]


def test_a_damaged_data_file_that_can_be_read_is_fetched_again_too(hub: HubServer, opened: Open) -> None:
    """The byte in the middle is one of plain numbers: any other one makes a number as well."""
    numbers, file = list(range(1000)), io.BytesIO()
    table = pa.table({"instruction": ["a"] * len(numbers), "id": numbers})
    pq.write_table(table, file, compression="none", use_dictionary=False, write_statistics=False)
    commit = hub.add_repo("dataset", "ana/d", files={"README.md": CARD, "test.parquet": file.getvalue()}).head()
    rule = hub.fail(CorruptDownload(), method="GET", path="/objects/")
    assert [row.columns["id"] for row in opened(hub, commit)] == numbers
    assert rule.hits == 1


def test_a_data_file_that_is_damaged_each_time_is_never_used(
    hub: HubServer, repository: Repository, opened: Open, cache: Path
) -> None:
    hub.fail(CorruptDownload(), method="GET", path="/objects/", times=None)
    error = refusal(lambda: opened(hub, repository.head()))
    assert type(error) is HubUnavailableError
    assert "came damaged from the Hub" in str(error)
    assert {path.read_bytes() for path in cache.glob("*/blobs/*")} <= set(repository.files().values())
    hub.recover()
    assert instructions(opened(hub, repository.head())) == ["a", "b"]


def test_an_outage_never_brings_back_the_rows_of_another_commit(hub: HubServer, repository: Repository, opened: Open) -> None:
    """Left to itself, `datasets` warns and takes the latest that it has in its cache for this name."""
    assert instructions(opened(hub, repository.head())) == ["a", "b"]
    commit = repository.commit({"data/test-00000-of-00001.parquet": parquet("c")})
    hub.fail(Status(503), times=None)
    assert type(refusal(lambda: opened(hub, commit))) is HubUnavailableError
    hub.recover()
    assert instructions(opened(hub, commit)) == ["c"]


def test_an_outage_never_brings_back_the_rows_of_another_configuration(hub: HubServer, opened: Open) -> None:
    files = "data_files:\n  - split: test\n    path: {}/*\n"
    configs = "".join(f"- config_name: {name}\n  default: {name == 'en'}\n  {files.format(name)}" for name in ("de", "en"))
    data: dict[str, str | bytes] = {"de/test.parquet": parquet("eins"), "en/test.parquet": parquet("one")}
    commit = hub.add_repo("dataset", "ana/d", files={"README.md": f"---\nconfigs:\n{configs}---\n"} | data).head()
    assert instructions(opened(hub, commit, DATASET_CONFIG="de")) == ["eins"]
    hub.fail(Status(503), times=None)
    assert type(refusal(lambda: opened(hub, commit))) is HubUnavailableError
    hub.recover()
    assert instructions(opened(hub, commit)) == ["one"]


def test_rows_in_the_cache_outlive_an_outage(hub: HubServer, repository: Repository, opened: Open) -> None:
    commit = repository.head()
    opened(hub, commit)
    hub.fail(Status(503), times=None)
    assert instructions(opened(hub, commit)) == ["a", "b"]


@pytest.mark.parametrize("token", [None, "hf_bob"])
@pytest.mark.parametrize("tls", [False, True])
def test_a_gated_dataset_at_a_full_commit_asks_for_its_terms(
    request: pytest.FixtureRequest, opened: Open, token: str | None, tls: bool
) -> None:
    server: HubServer = request.getfixturevalue("secure" if tls else "plain")
    server.add_user("bo", token="hf_bob")
    commit = server.add_repo("dataset", "ana/d", files=FILES, gated="manual").head()
    error = refusal(lambda: opened(server, commit, token))
    assert type(error) is AccessError
    assert "DATASET_ID=ana/d: is gated. Accept its terms on its page" in str(error)
    assert len(server.requests) < 5


@pytest.mark.parametrize("name", ["private", "missing"])
@pytest.mark.parametrize("token", [None, "hf_bob"])
def test_a_dataset_that_is_not_there_for_us_is_named(secure: HubServer, opened: Open, name: str, token: str | None) -> None:
    secure.add_user("bo", token="hf_bob")
    commit = "0" * 40
    if name == "private":
        commit = secure.add_repo("dataset", "ana/d", files=FILES, private=True).head()
    error = refusal(lambda: opened(secure, commit, token))
    assert type(error) is SettingsError
    assert "DATASET_ID='ana/d': no dataset of this name on the Hub" in str(error)
    assert "set HF_TOKEN to a token that may read it" in str(error)


def test_a_commit_that_is_not_there_is_named(hub: HubServer, repository: Repository, opened: Open) -> None:
    error = refusal(lambda: opened(hub, "0" * 40))
    assert type(error) is SettingsError
    assert str(error) == f"DATASET_REVISION='{'0' * 40}': ana/d has no such commit"


@pytest.mark.parametrize("token", ["hf_wrong", "hf_old"])
def test_a_token_that_is_not_valid_is_refused(hub: HubServer, repository: Repository, opened: Open, token: str) -> None:
    hub.add_token("ana", "hf_old", "read")
    hub.expire_token("hf_old")
    error = refusal(lambda: opened(hub, repository.head(), token))
    assert type(error) is AccessError
    assert "DATASET_ID=ana/d: the Hub refused access (401)" in str(error)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"README.md": CARD}, "split test has no rows. (The directory at hf://datasets/ana/d@"),
        ({"a.txt": "no card, no data" * 3, "data/test.jsonl": '{"instruction": "a"}\n{"instr'}, "cannot be read: "),
        ({"data/train-00000-of-00001.parquet": parquet("a")}, 'DATASET_SPLIT=test: Unknown split "test"'),
        ({"test.json": '{"a": ['}, "cannot be read: "),
    ],
)
def test_a_dataset_that_is_of_no_use_is_not_taken_for_an_outage(
    hub: HubServer, opened: Open, time: FakeTime, files: dict[str, str | bytes], message: str
) -> None:
    commit = hub.add_repo("dataset", "ana/d", files=files).head()
    error = refusal(lambda: opened(hub, commit))
    assert type(error) is DatasetError
    assert message in str(error)
    assert time.now == 0


def test_a_configuration_that_is_not_there_is_named(hub: HubServer, repository: Repository, opened: Open) -> None:
    error = refusal(lambda: opened(hub, repository.head(), DATASET_CONFIG="de"))
    assert type(error) is DatasetError
    assert str(error).startswith("DATASET_CONFIG=de: BuilderConfig 'de' not found")


def test_a_stop_ends_the_reading(hub: HubServer, repository: Repository, opened: Open, time: FakeTime, stop: FakeStop) -> None:
    def end() -> None:
        stop.signal, stop.grace_is_over = "SIGTERM", True

    time.on_sleep = end
    hub.fail(Status(503), times=None)
    assert type(refusal(lambda: opened(hub, repository.head()))) is StoppedError
    assert time.now <= 1


def test_offline_without_a_cache_it_is_said_to_be_so(
    hub: HubServer, repository: Repository, opened: Open, time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)
    with pytest.raises(SettingsError, match="HF_HUB_OFFLINE='1': is set, and DATASET_ID=ana/d needs the Hub, or a cache"):
        opened(hub, repository.head())
    assert time.now == 0


def test_offline_with_a_cache_the_rows_are_read(
    hub: HubServer, repository: Repository, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository.head()
    opened(hub, commit)
    before = len(hub.requests)
    for module in (constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)
    assert instructions(opened(hub, commit)) == ["a", "b"]
    assert len(hub.requests) == before
