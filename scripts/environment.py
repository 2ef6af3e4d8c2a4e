"""The settings that a script starts from: the environment, .env, and an embedded default, in this order of precedence."""

from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from job.settings import OTHER_KNOWN_NAMES, variables


def read(path: Path) -> dict[str, str]:
    """The variables that an env file sets; empty ones count as unset."""
    return {name: value for name, value in dotenv_values(path, interpolate=False).items() if value}


def layered(environ: Mapping[str, str], dotenv: Mapping[str, str], embedded: Mapping[str, str]) -> dict[str, str]:
    """The environment for the job. The embedded default belongs to its model: another MODEL_ID runs without it."""
    ours = {name for _, name in variables()} | set(OTHER_KNOWN_NAMES)
    chosen = {**dotenv, **{name: value for name, value in environ.items() if value or name not in ours}}
    return chosen if "MODEL_ID" in chosen else {**embedded, **chosen}
