"""A Hub that refuses: the job says so at the first attempt, nothing is published, and the next run publishes what was made."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.hub_server import Call, Fault, FineGrained, HubServer, Status
from tests.integration.publishing import COMMIT, INFO, PREUPLOAD, REPO, ROWS, TOKEN, Scene, retries, rows_of
from tests.support import Outcome, write_jsonl

pytestmark = pytest.mark.slow
OTHER = "hf_other"
BROKEN = "---\nconfigs: [\n---\n# Our answers\n\nWritten by hand.\n"


def expire(hub: HubServer) -> Fault:
    return Call(lambda _: hub.expire_token(TOKEN))


def demote(hub: HubServer) -> Fault:
    """The token loses its right to write."""
    return Call(lambda _: hub.add_token("ana", TOKEN, "read"))


def refuse(status: int) -> Callable[[HubServer], Fault]:
    return lambda _: Status(status)


MIDWAY: dict[str, tuple[Callable[[HubServer], Fault], str, int, str]] = {
    # fault, path, requests of this path that are spared, words of the message
    "a token that expires before the upload": (expire, INFO, 4, "refused access (401)"),
    "a token that expires before the commit": (expire, COMMIT, 0, "refused access (401)"),
    "a right that is taken away": (demote, PREUPLOAD, 0, "refused access (403)"),
    "403 on the commit": (refuse(403), COMMIT, 0, "refused access (403)"),
    "413 on the commit": (refuse(413), COMMIT, 0, "refused it (413)"),
}


@pytest.mark.parametrize("name", MIDWAY)
def test_a_refusal_in_the_middle_ends_the_run_and_a_new_token_publishes_only(name: str, scene: Scene) -> None:
    fault, path, skip, words = MIDWAY[name]
    rule = scene.hub.fail(fault(scene.hub), path=path, skip=skip)
    outcome = scene.run()
    assert rule.hits == 1
    scene.check_held_back(outcome, 77, uploads=path == COMMIT)
    assert words in outcome.last["message"]
    assert retries(outcome) == []
    scene.hub.recover()
    scene.hub.add_token("ana", OTHER, "write")
    scene.check_published(scene.run(HF_TOKEN=OTHER), generated=0)


def others(hub: HubServer) -> None:
    """A user, an organisation that ana may only read, and a gated dataset that she was not let into."""
    hub.add_user("bob")
    hub.add_organisation("lab", {"ana": "read", "bob": "write"})
    hub.add_repo("dataset", "bob/gated", files={"test.jsonl": '{"instruction": "x"}\n'}, gated="manual")


NO_RIGHT: dict[str, tuple[Any, dict[str, object], str]] = {
    # rights of the token, variables, words of the message
    "a token that may only read": ("read", {}, f"{REPO}: the account ana may not write there with this HF_TOKEN"),
    "a fine-grained token for another repository": (
        FineGrained({"datasets/ana/other": "write"}), {}, f"{REPO}: the account ana may not write there"
    ),
    "another user's namespace": ("write", {"HUB_NAMESPACE": "bob"}, "bob/echo-model-results: the account ana may not write"),
    "an organisation that may only be read": ("write", {"HUB_NAMESPACE": "lab"}, "lab/echo-model-results: the account ana"),
    "a gated dataset": ("write", {"DATASET_ID": "bob/gated"}, "DATASET_ID=bob/gated: is gated. Accept its terms"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_RIGHT)
def test_a_missing_right_is_seen_before_anything_is_answered(name: str, scene: Scene) -> None:
    rights, variables, words = NO_RIGHT[name]
    others(scene.hub)
    scene.hub.add_token("ana", OTHER, rights)
    outcome = scene.run(HF_TOKEN=OTHER, **variables)
    assert outcome.code == outcome.last["exit_code"] == 77, outcome.last
    assert words in outcome.last["message"]
    assert not outcome.of("engine_starting")
    assert {seen.method for seen in scene.hub.requests} <= {"GET", "HEAD"}, "something was changed"


def test_a_fine_grained_token_for_the_repository_is_enough(scene: Scene) -> None:
    scene.hub.add_token("ana", OTHER, FineGrained({f"datasets/{REPO}": "write"}))
    scene.check_published(scene.run(HF_TOKEN=OTHER))


def test_a_public_repository_is_refused_until_it_may_be_public(scene: Scene) -> None:
    repository = scene.hub.add_repo("dataset", REPO, files={"notes.txt": "n"})
    before = repository.head()
    outcome = scene.run()
    assert outcome.code == 77
    assert f"{REPO} is public, and HUB_PRIVATE=true" in outcome.last["message"]
    assert not outcome.of("engine_starting")
    assert (repository.head(), repository.private) == (before, False)
    assert {seen.method for seen in scene.hub.requests} == {"GET"}
    scene.check_published(scene.run(HUB_PRIVATE="false"))
    assert repository.files()["notes.txt"] == b"n"


def check_foreseen(outcome: Outcome) -> None:
    """Refused before anything was answered."""
    assert outcome.code == outcome.last["exit_code"] == 78
    assert not {"preflight_passed", "engine_starting", "results_written"} & {event["event"] for event in outcome.events}


def test_another_split_with_other_columns_is_foreseen_by_a_dry_run_too(scene: Scene) -> None:
    assert scene.run().code == 0
    before = scene.repo().head()
    other = write_jsonl(scene.folder / "other.jsonl", [{"instruction": "Say hi.", "more": 1}])
    for dry_run in ("true", "false"):
        outcome = scene.run(DATASET_ID=other, DATASET_SPLIT="train", DRY_RUN=dry_run)
        check_foreseen(outcome)
        assert f"HUB_REPO_ID='{REPO}': its split test has other columns than this run's train" in outcome.last["message"]
    assert scene.repo().head() == before


def test_echoes_do_not_replace_the_answers_of_a_model(scene: Scene) -> None:
    assert scene.run().code == 0
    manifest = json.loads(scene.repo().files()["run.json"])
    manifest["identity"]["facts"]["engine"]["name"] = "vllm"
    before = scene.repo().commit({"run.json": json.dumps(manifest)})
    outcome = scene.run(SEED=1)
    check_foreseen(outcome)
    assert f"ENGINE='echo': would replace the answers of a model in {REPO} by echoes" in outcome.last["message"]
    assert scene.repo().head() == before


def test_what_is_replaced_is_said_beforehand(scene: Scene) -> None:
    first = scene.run()
    assert not first.of("replaces_published")
    assert not scene.run().of("replaces_published")
    (fewer,) = scene.run(MAX_ROWS=2, DRY_RUN="true").of("replaces_published")
    assert (fewer["repo_id"], fewer["run"], fewer["rows"], fewer["differing"]) == (REPO, first.last["run_id"], ROWS, [])
    (changed,) = scene.run(SEED=1, PROMPT_TEMPLATE="chat", DRY_RUN="true").of("replaces_published")
    assert (changed["run"], changed["differing"]) == (first.last["run_id"], ["prompt", "sampling"])


def test_a_setting_that_only_the_published_run_had_is_said_beforehand(scene: Scene) -> None:
    assert scene.run(KV_CACHE_DTYPE="fp8").code == 0
    (usual,) = scene.run(DRY_RUN="true").of("replaces_published")
    assert usual["differing"] == ["kv_cache_dtype"]


def test_a_card_that_is_no_yaml_is_left_alone_and_named(scene: Scene) -> None:
    repository = scene.hub.add_repo("dataset", REPO, files={"README.md": BROKEN}, private=True)
    before = repository.head()
    outcome = scene.run()
    check_foreseen(outcome)
    assert f"HUB_REPO_ID='{REPO}': the metadata at the top of its README.md is no YAML" in outcome.last["message"]
    assert repository.head() == before
    repository.commit({"README.md": BROKEN.replace("[", "")}, "Mend the card")
    again = scene.run()
    assert (again.code, len(scene.commits())) == (0, 1)
    scene.check_content(again)
    assert "Written by hand." in repository.files()["README.md"].decode()


def test_a_card_that_is_not_utf8_is_left_alone_and_named(scene: Scene) -> None:
    scene.hub.add_repo("dataset", REPO, files={"README.md": b"# R\xe9sultats\n"}, private=True)
    outcome = scene.run()
    check_foreseen(outcome)
    assert f"HUB_REPO_ID='{REPO}': its README.md is not UTF-8" in outcome.last["message"]


def test_a_dataset_on_the_hub_is_answered_once_it_may_be_read(scene: Scene) -> None:
    """A gated one, of which ana gets to know after she was let in."""
    scene.hub.add_user("bob")
    file = write_jsonl(scene.folder / "test.jsonl", rows_of("sheep"))
    gated = scene.hub.add_repo("dataset", "bob/gated", files={"test.jsonl": file.read_text()}, gated="manual")
    assert scene.run(DATASET_ID="bob/gated").code == 77
    gated.granted.add("ana")
    scene.check_published(scene.run(DATASET_ID="bob/gated"))
