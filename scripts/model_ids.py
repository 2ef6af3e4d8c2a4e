"""MODEL_IDS: the models that a loop goes through, `id[@revision]` each, separated by spaces or commas."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelId:
    """One model of the loop: what becomes MODEL_ID, and MODEL_REVISION where one is given."""

    id: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.id if self.revision is None else f"{self.id}@{self.revision}"


def parse(text: str) -> list[ModelId]:
    """The models of MODEL_IDS, in order.

    Raises: ValueError where there is none, one lacks its id or revision, or one is there twice.
    """
    models = [_model(word) for word in re.split(r"[\s,]+", text) if word]
    if not models:
        raise ValueError("MODEL_IDS: names no model: set it to ids such as `org/one org/two@main`")
    for model in models:
        if models.count(model) > 1:
            raise ValueError(f"MODEL_IDS: {model} is there twice: name each model once")
    return models


def _model(word: str) -> ModelId:
    name, at, revision = word.partition("@")
    if not name or (at and not revision) or "@" in revision:
        raise ValueError(f"MODEL_IDS: {word!r} is not a model: write `id`, or `id@revision`")
    return ModelId(name, revision or None)
