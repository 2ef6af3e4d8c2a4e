"""The metadata at the top of a dataset card, in YAML: what is about one split is replaced, and all else is kept. Pure.

Source of its forms: https://huggingface.co/docs/datasets/repository_structure and `datasets`' own MetadataConfigs.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from job.layout import DEFAULT_CONFIG, data_pattern

# What `datasets` takes for a split where a card names no files.
_UNNAMED_DATA = re.compile(r"data/(\w+)-\d{5}-of-\d{5}[^/]*\.parquet")
# What it takes for data as well (.txt too, but notes are likelier), and the manifests, which it would take for that too.
_OTHER_DATA = re.compile(r".*\.(parquet|csv|tsv|jsonl?|arrow)")
_MANIFEST = re.compile(r"(^|/)run(-[^/]*)?\.json$")

Metadata = dict[str, Any]


def merged(card: str, config: str, split: str, dataset_info: Mapping[str, Any], paths: Sequence[str]) -> tuple[str, str]:
    """The metadata of a card with this split in it, as YAML, and the text below the metadata as it is.

    card: empty where there is none; dataset_info: of this split alone; paths: the files that are there.
    Raises: ValueError where the metadata cannot be read, or has another split of this configuration with other columns.
    """
    front, body = _parted(card)
    metadata, root = _parsed(front)
    try:
        configs = _configs(metadata.get("configs"), config, split, paths)
        infos = _infos(metadata.get("dataset_info"), config, split, dataset_info)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("`configs` or `dataset_info` at the top of its README.md have a form that is not known") from error
    return _written(root, {"configs": configs, "dataset_info": infos}), body


def _parted(card: str) -> tuple[str, str]:
    """The metadata at the top of a card, as text, and the text below it."""
    found = re.match(r"\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?$\n?", card, re.DOTALL | re.MULTILINE)
    return (found[1], card[found.end() :]) if found else ("", card)


def _parsed(front: str) -> tuple[Metadata, yaml.MappingNode]:
    """The metadata as values, and as they are written."""
    try:
        metadata, root = yaml.safe_load(front), yaml.compose(front, yaml.SafeLoader)
    except (yaml.YAMLError, ValueError) as error:  # a date that is none is a ValueError
        raise ValueError(f"the metadata at the top of its README.md is no YAML: {' '.join(str(error).split())}") from error
    if root is None or metadata is None:
        return {}, yaml.MappingNode("tag:yaml.org,2002:map", [], flow_style=False)
    if not isinstance(root, yaml.MappingNode):
        raise ValueError("the metadata at the top of its README.md is no mapping")
    return metadata, root


def _written(root: yaml.MappingNode, changed: Metadata) -> str:
    """The metadata as YAML with these values in it.

    Others stay as they are written, not as Python reads them: the language `no` is no falsehood, and 1.10 is not 1.1.
    """
    entries = {key.value: (key, value) for key, value in root.value}
    root.value = list((entries | {name: _node(name, value) for name, value in changed.items()}).values())
    text: str = yaml.serialize(root, Dumper=yaml.SafeDumper, allow_unicode=True)
    return text


def _node(name: str, value: Any) -> tuple[yaml.Node, yaml.Node]:
    dumper = yaml.SafeDumper(io.StringIO(), sort_keys=False)
    return dumper.represent_data(name), dumper.represent_data(value)


def _configs(existing: Any, config: str, split: str, paths: Sequence[str]) -> list[Metadata]:
    """The `configs` of a card, with the files of this split."""
    configs = _mappings(existing) or _unnamed(paths)
    _check_others(configs, config, paths)
    ours = next((each for each in configs if each.get("config_name", DEFAULT_CONFIG) == config), None)
    if ours is None:
        ours = {"config_name": config}
        configs.append(ours)
    entry = {"split": split, "path": data_pattern(config, split)}
    ours["data_files"] = _replaced(_data_files(ours.get("data_files")), "split", entry)
    _check_format(configs)
    return configs


def _check_others(configs: Sequence[Metadata], config: str, paths: Sequence[str]) -> None:
    """Raises: ValueError where readers would no longer get what is there, or would not get the results beside it."""
    others = [path for path in paths if _OTHER_DATA.fullmatch(path) and not _MANIFEST.search(path)]
    if not configs and others:
        raise ValueError(f"its README.md does not name the data that is there ({others[0]}), in `configs`")
    for each in configs:
        if each.get("config_name", DEFAULT_CONFIG) == config and each.get("data_dir"):
            raise ValueError(f"the configuration {config} in its README.md has a data_dir, and the results lie elsewhere")


def _check_format(configs: Sequence[Metadata]) -> None:
    """`datasets` reads all configurations with the reader of the first one. Raises: ValueError where that is another."""
    first = _data_files(configs[0].get("data_files"))
    named = [path for each in first for path in ([each["path"]] if isinstance(each["path"], str) else each["path"])]
    if foreign := [path for path in named if _OTHER_DATA.fullmatch(path) and not path.endswith(".parquet")]:
        raise ValueError(f"its first configuration is not in Parquet ({foreign[0]}), and readers take the results for the same")


def _unnamed(paths: Sequence[str]) -> list[Metadata]:
    """What a card without `configs` means by the files that are there."""
    splits = dict.fromkeys(found[1] for path in sorted(paths) if (found := _UNNAMED_DATA.fullmatch(path)))
    files = [{"split": split, "path": data_pattern(DEFAULT_CONFIG, split)} for split in splits]
    return [{"config_name": DEFAULT_CONFIG, "data_files": files}] if files else []


def _data_files(existing: Any) -> list[Metadata]:
    """The forms that `datasets` allows, as one: a list of splits and paths."""
    if not existing:
        return []
    if isinstance(existing, dict):
        return [{"split": split, "path": path} for split, path in existing.items()]
    if isinstance(existing, list) and all(isinstance(each, dict) for each in existing):
        return existing
    return [{"split": "train", "path": existing}]


def _infos(existing: Any, config: str, split: str, ours: Mapping[str, Any]) -> Any:
    """The `dataset_info` of a card, with this split: one mapping where there is one configuration, else a list."""
    infos = _mappings(existing if isinstance(existing, list) else [existing] if existing else [])
    old = next((each for each in infos if each.get("config_name", DEFAULT_CONFIG) == config), None)
    new = {"config_name": config, **ours} if config != DEFAULT_CONFIG else dict(ours)
    others = [each for each in (old or {}).get("splits", []) if each["name"] != split]
    if others and old is not None:
        if old.get("features") != ours["features"]:
            names = ", ".join(each["name"] for each in others)
            raise ValueError(f"its split {names} has other columns than this run's {split}, and a configuration has one set")
        new["splits"] = _replaced(old["splits"], "name", ours["splits"][0])
        new["dataset_size"] = sum(each["num_bytes"] for each in new["splits"])
        new.pop("download_size")  # is not known by split
    if old is None:
        infos.append(new)
    else:
        infos[infos.index(old)] = new
    return infos[0] if len(infos) == 1 else [{"config_name": DEFAULT_CONFIG, **each} for each in infos]


def _mappings(entries: Any) -> list[Metadata]:
    """Copies of the entries. Raises: TypeError where it is no list of mappings."""
    if not all(isinstance(each, dict) for each in entries or ()):
        raise TypeError("not a list of mappings")
    return [dict(each) for each in entries or ()]


def _replaced(entries: Sequence[Metadata], key: str, entry: Metadata) -> list[Metadata]:
    """The entries with this one in the place of the one of the same name, else at the end."""
    if any(each.get(key) == entry[key] for each in entries):
        return [entry if each.get(key) == entry[key] else each for each in entries]
    return [*entries, entry]
