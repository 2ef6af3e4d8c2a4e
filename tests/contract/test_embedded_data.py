"""The dataset of `make generate`."""

import json

from tests.support import ROOT


def test_instructions_are_many_varied_and_whole() -> None:
    rows = [json.loads(line) for line in (ROOT / "data" / "instructions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) >= 24
    assert len({row["instruction"] for row in rows}) == len(rows)
    assert len({row["category"] for row in rows}) >= 8
    assert all(row["instruction"] and row["output"] for row in rows)
