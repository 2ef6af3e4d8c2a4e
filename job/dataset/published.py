"""A dataset as its readers see it: what its card says of the data, and how many rows they get."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from job.dataset.refusals import no_room_named
from job.records import DataFile


def dataset_info(schema: pa.Schema, split: str, files: Sequence[DataFile]) -> dict[str, Any]:
    """What a dataset card says of its data, so that a reader notices a lost file: features, rows and bytes."""
    from datasets import Features, SplitDict, SplitInfo
    from datasets.info import DatasetInfo, DatasetInfosDict
    from huggingface_hub import DatasetCardData

    rows, in_memory, on_disk = (sum(getattr(file, name) for file in files) for name in ("rows", "memory_bytes", "bytes"))
    splits = SplitDict({split: SplitInfo(split, in_memory, rows)})
    info = DatasetInfo(
        features=Features.from_arrow_schema(schema), splits=splits, download_size=on_disk, dataset_size=in_memory
    )
    card = DatasetCardData()
    DatasetInfosDict({"default": info}).to_dataset_card_data(card)
    described: dict[str, Any] = card.to_dict()["dataset_info"]  # type: ignore[no-untyped-call]
    return described


def count_rows(repo_id: str, commit: str, config: str, split: str, token: str | None, folder: Path) -> int:
    """The rows of a split on the Hub, as a reader gets them; `folder` takes what the reading leaves behind.

    One column is read, as every byte of the files is compared elsewhere. This is `load_dataset` without its last step, which
    maps the converted file into memory: rows are counted when they are converted.
    Raises: errors of `datasets`, which holds the files against the sizes that the card names; OSError.
    """
    import datasets

    options = {"revision": commit, "token": token, "cache_dir": str(folder), "columns": ["prompt_tokens"]}
    builder = datasets.load_dataset_builder(repo_id, config, **options)
    try:
        with no_room_named():
            builder.download_and_prepare()
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, OSError):  # a full disk, above all
            raise error.__cause__ from error
        raise
    rows: int = builder.info.splits[split].num_examples
    return rows
