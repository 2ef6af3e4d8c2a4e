"""The files of one commit, as a mapping from path to file: changes to it, and what the API tells about it. All pure."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.hub_server.blobs import File, lfs_pointer
from tests.hub_server.errors import HubError, entry_not_found

Tree = Mapping[str, File]


@dataclass(frozen=True, slots=True)
class Put:
    path: str
    file: File


@dataclass(frozen=True, slots=True)
class Delete:
    path: str


@dataclass(frozen=True, slots=True)
class DeleteFolder:
    path: str


Operation = Put | Delete | DeleteFolder


def changed(tree: Tree, operations: Iterable[Operation]) -> dict[str, File]:
    """The tree after a commit.

    Raises: HubError where something to delete is not there, a path is not one, or a file would be a folder as well.
    """
    after = dict(tree)
    for operation in operations:
        match operation:
            case Put(path, file):
                after[_checked(path)] = file
            case Delete(path):
                if after.pop(path, None) is None:
                    raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            case DeleteFolder(path):
                doomed = _below(after, path)
                if not doomed:
                    raise HubError(404, f"A folder with this name doesn't exist: {path}", "EntryNotFound")
                for name in doomed:
                    del after[name]
    folders = {parent for path in after for parent in _parents(path)}
    if clash := folders & after.keys():
        raise HubError(400, f"both a file and a folder: {', '.join(sorted(clash))}")
    return after


def listing(tree: Tree, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """Files and folders below `folder` ("" for all), sorted by path. Raises: HubError where there is no such folder."""
    prefix = f"{folder}/" if folder else ""
    inside = [path for path in tree if path.startswith(prefix)]
    if folder and not inside:
        raise entry_not_found(folder)
    names = {path if recursive else prefix + path.removeprefix(prefix).partition("/")[0] for path in inside}
    if recursive:
        names |= {parent for path in inside for parent in _parents(path) if parent.startswith(prefix)}
    return [entry(tree, name) for name in sorted(names)]


def entry(tree: Tree, path: str) -> dict[str, Any]:
    """One file or folder as tree and paths-info tell it. Raises: HubError where there is neither."""
    if path in tree:
        file = tree[path]
        told = {"type": "file", "oid": file.oid, "size": file.size, "path": path}
        return told | ({"lfs": {"oid": file.blob.sha256} | _lfs_sizes(file)} if file.is_lfs else {})
    inside = _below(tree, path)
    if not inside:
        raise entry_not_found(path)
    digest = hashlib.sha1(repr([(name, tree[name].oid) for name in sorted(inside)]).encode(), usedforsecurity=False)
    return {"type": "directory", "oid": digest.hexdigest(), "size": 0, "path": path}


def siblings(tree: Tree, *, blobs: bool) -> list[dict[str, Any]]:
    """The files as repository info tells them; `blobs` adds sizes and hashes."""
    return [{"rfilename": path} | (_sibling(tree[path]) if blobs else {}) for path in sorted(tree)]


def _sibling(file: File) -> dict[str, Any]:
    told = {"size": file.size, "blobId": file.oid}
    return told | ({"lfs": {"sha256": file.blob.sha256} | _lfs_sizes(file)} if file.is_lfs else {})


def _lfs_sizes(file: File) -> dict[str, int]:
    return {"size": file.size, "pointerSize": len(lfs_pointer(file.blob.sha256, file.size))}


def _below(tree: Tree, folder: str) -> list[str]:
    return [path for path in tree if path.startswith(f"{folder.rstrip('/')}/")]


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _checked(path: str) -> str:
    if any(part in ("", ".", "..", ".git") for part in path.split("/")):
        raise HubError(400, f"not a path in a repository: {path!r}")
    return path
