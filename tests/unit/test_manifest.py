import json
import platform
from dataclasses import replace
from typing import Any

import pytest

import job
from job.disk import json_text
from job.errors import SettingsError
from job.identity import Identity
from job.manifest import build, is_of, joined
from job.records import DataFile, Source, Tally

IDENTITY = Identity({"model": "m"})
FILE = DataFile("data/test-00000-of-00001.parquet", 2, 100, 200, "f" * 64)


MODEL, DATA = Source("org/model", "a" * 40, local=False), Source("org/data", "b" * 40, local=False)
TALLY = Tally(2, 1, {"error": 1, "length": 1}, 10, 20, 16, {16: 1}, {"length": {16: 1}})


def _built(model: Source, dataset: Source, adapter: Source | None = None, tally: Tally | None = None) -> dict[str, Any]:
    return build(
        identity=IDENTITY,
        model=model,
        adapter=adapter,
        dataset=dataset,
        tally=tally or TALLY,
        generated_rows=1,
        files=[FILE],
        seconds={"plan": 0.5},
        engine={"name": "echo"},
        image={"variant": "cpu"},
    )


def test_the_manifest_has_everything_that_is_known() -> None:
    manifest = _built(Source("org/model", "a" * 40, local=False), Source("org/data", "b" * 40, local=False))
    versions = manifest.pop("versions")
    assert manifest == {
        "identity": {"digest": IDENTITY.digest, "facts": {"model": "m"}},
        "model": {"name": "org/model", "commit": "a" * 40, "local": False},
        "adapter": None,
        "dataset": {"name": "org/data", "commit": "b" * 40, "local": False},
        "generated_rows": 1,
        "max_rows": None,
        "counts": {
            "rows": 2,
            "failed_rows": 1,
            "finish_reasons": {"error": 1, "length": 1},
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "runaway_tokens": 16,
            "lengths": {"16": 1},
            "runaway_lengths": {"length": {"16": 1}},
        },
        "answers": {
            "answers": 1,
            "runaways": 1,
            "runaway_share": 1.0,
            "runaway_tokens": 16,
            "runaway_token_share": 0.8,
            "median_tokens": 16,
            "p95_tokens": 16,
            "p99_tokens": 16,
            "longest_tokens": 16,
        },
        "files": [
            {
                "path": "data/test-00000-of-00001.parquet",
                "rows": 2,
                "bytes": 100,
                "memory_bytes": 200,
                "sha256": "f" * 64,
            }
        ],
        "seconds": {"plan": 0.5},
        "budget": None,
        "seeds": "a row's seed is the first 63 bits of SHA-256 of 'SEED:position:sample'",
        "engine": {"name": "echo"},
        "image": {"variant": "cpu"},
    }
    assert isinstance(versions, dict)
    assert versions["job"] == job.__version__
    assert versions["python"] == platform.python_version()
    assert {"datasets", "huggingface_hub", "pyarrow", "transformers", "tokenizers"} <= set(versions)


def test_local_files_are_named_without_their_path() -> None:
    manifest = _built(Source("/home/me/model", "sha256:1", local=True), Source("/home/me/rows.jsonl", "sha256:2", local=True))
    assert manifest["model"] == {"name": "model", "commit": "sha256:1", "local": True}
    assert manifest["dataset"] == {"name": "rows.jsonl", "commit": "sha256:2", "local": True}
    assert "/home/me" not in json_text(manifest)


def test_the_manifest_is_json() -> None:
    manifest = _built(Source("org/model", "a", local=False), Source("org/data", "b", local=False))
    assert json.loads(json_text(manifest)) == manifest


def test_a_manifest_is_that_of_its_own_run_alone() -> None:
    model, dataset = Source("org/model", "a" * 40, local=False), Source("org/data", "b" * 40, local=False)
    read = json.loads(json_text(_built(model, dataset)))
    assert is_of(read, IDENTITY, model, None, dataset)
    assert not is_of(read, IDENTITY, model, None, replace(dataset, commit="c" * 40))
    assert not is_of(read, Identity({"model": "n"}), model, None, dataset)
    assert not is_of(
        {name: value for name, value in read.items() if name != "adapter"} | {"adapter": {}}, IDENTITY, model, None, dataset
    )


COUNTS = {
    "rows": 2,
    "failed_rows": 1,
    "finish_reasons": {"stop": 1, "error": 1},
    "prompt_tokens": 1,
    "completion_tokens": 1,
    "runaway_tokens": 0,
    "lengths": {"1": 1},
}


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": None},
        {"seconds": {"plan": "1"}},
        {"generated_rows": "1"},
        {"engine": "device"},
        {"counts": None},
        {"counts": COUNTS | {"rows": "2"}},
        {"counts": COUNTS | {"finish_reasons": {"stop": "x"}}},
        {"counts": COUNTS | {"runaway_tokens": 1.5}},
        {"counts": COUNTS | {"lengths": {"7": "1"}}},
        {"counts": COUNTS | {"lengths": {"long": 1}}},
        {"counts": COUNTS | {"lengths": {"07": 1}}},
        {"counts": COUNTS | {"lengths": {"7" * 5000: 1}}},
        {"counts": COUNTS | {"lengths": [7]}},
        {"counts": {name: value for name, value in COUNTS.items() if name != "lengths"}},
        {"counts": COUNTS | {"runaway_lengths": {"length": {"7": "1"}}}},
        {"counts": COUNTS | {"runaway_lengths": {"length": {"long": 1}}}},
        {"counts": COUNTS | {"runaway_lengths": {"length": 1}}},
        {"counts": COUNTS | {"runaway_lengths": None}},
        {"versions": {}},
        {"files": [{"path": "x"}]},
        {"versions": "\ud800"},
    ],
)
def test_a_manifest_that_is_not_as_it_was_built_is_none(change: dict[str, object]) -> None:
    built = json.loads(json_text(_built(MODEL, DATA)))
    assert is_of(built | {"counts": COUNTS}, IDENTITY, MODEL, None, DATA)
    assert not is_of(built | change, IDENTITY, MODEL, None, DATA)


def test_what_shards_counted_is_counted_as_if_one_process_had_counted_it() -> None:
    """Percentiles cannot be added up: the lengths are, each of them."""
    identity = Identity({"reproducibility": "seeded"})
    tallies = [
        Tally(3, 0, {"length": 1, "stop": 2}, 10, 118, 100, {9: 2, 100: 1}, {"length": {100: 1}}),
        Tally(
            3,
            1,
            {"error": 1, "length": 1, "repetition": 1},
            20,
            131,
            131,
            {31: 1, 100: 1},
            {"length": {100: 1}, "repetition": {31: 1}},
        ),
    ]
    reasons, runaways = {"error": 1, "length": 2, "repetition": 1, "stop": 2}, {"length": {100: 2}, "repetition": {31: 1}}
    whole = Tally(6, 1, reasons, 30, 249, 231, {9: 2, 31: 1, 100: 2}, runaways)
    parts = [
        json.loads(json_text(_built(MODEL, DATA, tally=tally) | {"identity": {"digest": "d", "facts": identity.facts}}))
        for tally in tallies
    ]
    both, one = joined(parts), _built(MODEL, DATA, tally=whole)
    for name in ("counts", "answers"):
        assert json_text(both[name]) == json_text(one[name])
    assert (both["answers"]["runaways"], both["answers"]["median_tokens"], both["answers"]["p95_tokens"]) == (3, 31, 100)


def _sang(answered: str | None) -> dict[str, object]:
    record = {"prompts": 8, "judged": 8, "differing": 0, "in_company": 128, "tokens": 16, "asked": "a", "answered": answered}
    return {"device": "H100", "canary": record}


@pytest.mark.parametrize(
    ("level", "last", "refused"), [("bitwise", "c", True), ("bitwise", "b", False), ("seeded", "c", False)]
)
def test_shards_whose_canaries_answered_differently_are_not_joined_where_bytes_are_promised(
    level: str, last: str, refused: bool
) -> None:
    built = _built(Source("org/model", "a" * 40, local=False), Source("org/data", "b" * 40, local=False))
    engines = [{}, _sang("b"), {"device": "H100"}, _sang(None), _sang(last)]
    parts = [{**built, "identity": {"facts": {"reproducibility": level}}, "engine": engine} for engine in engines]
    if refused:
        with pytest.raises(SettingsError, match=r"hardware.*: shards 1 and 4 gave different answers to the canary's prompts"):
            joined(parts)
    else:
        assert joined(parts)["engine"] == engines[1]


def test_shards_of_different_hardware_are_not_joined_where_bytes_are_promised() -> None:
    for level in ("seeded", "bitwise"):
        identity = {"digest": "d", "facts": {"reproducibility": level}}
        built = _built(Source("org/model", "a" * 40, local=False), Source("org/data", "b" * 40, local=False))
        parts = [{**built, "identity": identity, "engine": {"device": device}} for device in ("H100", "A100")]
        if level == "seeded":
            assert joined(parts)["shards"] == 2
        else:
            with pytest.raises(SettingsError, match=r"answered on different hardware.*: A100, None, None; H100, None, None"):
                joined(parts)
