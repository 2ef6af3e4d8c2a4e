"""How fast a run was, and where its seconds went, from what run.json has. Pure."""

from collections.abc import Mapping
from typing import Any


def tokens_per_second(seconds: Mapping[str, float], generated_rows: int, counts: Mapping[str, Any]) -> float | None:
    """Generated tokens for each second of generation; None where other processes answered a part of the rows.

    seconds: by phase; counts: a tally's values by their names.
    """
    generation = seconds.get("generation", 0)
    tokens: int = counts["completion_tokens"]
    return tokens / generation if generated_rows == counts["rows"] and generation else None


def whole_phases(seconds: Mapping[str, float]) -> dict[str, float]:
    """The seconds of the phases that make up the whole; parts of one have a dot in their name."""
    return {name: value for name, value in seconds.items() if "." not in name}
