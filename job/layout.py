"""The names of things in a results folder, which is laid out as the repository that it is published to.

    README.md                              the card, of all splits that the repository has
    run.json                               the manifest
    data/test-00000-of-00001.parquet       the split `test`; of the configuration `main`: main/test-00000-of-00001.parquet
    images/default/test-lengths.png        the plot in the section of that split in the card

A repository may hold several splits, each from a run of its own: run.json is that of the first one, run-<split>.json that of
another split, and each further configuration has its own in its folder.
"""

import glob

from job.shards import Shard

MANIFEST = "run.json"
PUBLISHED = "published.json"  # in the folder only: where its results were published and read back
IDENTITY = "identity.json"  # in the folder only: what the run is, from its start on
LATEST = "latest"  # beside the folder: leads to that of the run that finished last
CARD = "README.md"
DEFAULT_CONFIG = "default"
_DEFAULT_FOLDER = "data"


def config_of(dataset_config: str | None) -> str:
    """The configuration of the results of a DATASET_CONFIG: `datasets` calls the only one `default`."""
    return dataset_config or DEFAULT_CONFIG


def data_folder(config: str) -> str:
    """Of a configuration that is called as the folder of the default one, a folder in that."""
    if config == DEFAULT_CONFIG:
        return _DEFAULT_FOLDER
    return f"{_DEFAULT_FOLDER}/{config}" if config == _DEFAULT_FOLDER else config


def data_path(config: str, split: str, shard: Shard) -> str:
    return f"{data_folder(config)}/{split}-{shard.name}.parquet"


def data_pattern(config: str, split: str) -> str:
    """The glob of a split's files, for the card."""
    return f"{glob.escape(data_folder(config))}/{split}-*"


def is_data_of(path: str, config: str, split: str) -> bool:
    """Whether `data_pattern` takes this path in."""
    folder, _, name = path.rpartition("/")
    return folder == data_folder(config) and name.startswith(f"{split}-")


def image_path(config: str, split: str) -> str:
    """The plot of a split's card. Two folders deep, where no data of any configuration lies."""
    return f"images/{config}/{split}-lengths.png"


def manifest_paths(config: str, split: str) -> tuple[str, str]:
    """Where a split's manifest is: the first path, or where that is another split's, the second."""
    folder = "" if config == DEFAULT_CONFIG else f"{data_folder(config)}/"
    return f"{folder}{MANIFEST}", f"{folder}run-{split}.json"
