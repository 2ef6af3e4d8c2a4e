"""A disk that keeps for certain only what was synced, to see what a power cut may leave of a record of system calls.

The model is the promise of POSIX and no more, which is harsher than any file system:
    fsync and fdatasync of a file keep its content and its size, not its name;
    fsync of a folder keeps the names in it as they are: made, renamed, removed;
    of what was not synced any part may be there and any other missing: of writes each sector by itself, of names each change
    by itself, so later ones without earlier ones. A file may have its new size with zeros where content is missing.
A rename is one change: never neither name. What was synced stays; a disk that lies about that is beyond every program.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal, TypeAlias

SECTOR_BYTES = 512
APPENDED = -1  # the offset of what is written at the end of a file
LIKELIHOODS = (0.0, 0.2, 0.5, 0.8, 1.0)  # of a change that was not synced to be there

# What is below a folder, by relative path: content of a file, target of a link, None of a folder.
Tree: TypeAlias = Mapping[str, bytes | str | None]


@dataclass(frozen=True, slots=True)
class Call:
    """Something that a program did.

    data: what is written, or said; offset: where in the file, or its new size; target: of a link, or the new name.
    """

    what: Literal["make_folder", "create", "write", "resize", "rename", "remove", "link", "sync", "say"]
    path: Path
    data: bytes = b""
    offset: int = 0
    target: str = ""


@dataclass(frozen=True, slots=True)
class _Write:
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Resize:
    size: int


class _Node:
    """What a name may lead to."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _Link(_Node):
    target: str


@dataclass(slots=True)
class _File(_Node):
    """kept: what is there after a power cut at least; content: what programs see; unsynced: what lies between."""

    kept: bytes = b""
    content: bytearray = field(default_factory=bytearray)
    unsynced: list[_Write | _Resize] = field(default_factory=list)

    def change(self, change: _Write | _Resize) -> None:
        self.unsynced.append(change)
        if isinstance(change, _Resize):
            _resize(self.content, change.size)
        else:
            _put(self.content, change.offset, change.data)

    def sync(self) -> None:
        self.kept = bytes(self.content)
        self.unsynced.clear()

    def left(self, chance: Random) -> bytes:
        likelihood = chance.choice(LIKELIHOODS)
        left = bytearray(self.kept)
        for change in self.unsynced:
            if isinstance(change, _Resize):
                if chance.random() < likelihood:
                    _resize(left, change.size)
                continue
            end = change.offset + len(change.data)
            if end > len(left) and chance.random() < likelihood:
                _resize(left, end)
            for start, stop in _sectors(change.offset, end):
                if chance.random() < likelihood:
                    _put(left, start, change.data[start - change.offset : stop - change.offset])
        return bytes(left)


@dataclass(slots=True)
class _Folder(_Node):
    """As a file, with names for content. unsynced: changes of names, None for one that is removed."""

    kept: dict[str, _Node] = field(default_factory=dict)
    names: dict[str, _Node] = field(default_factory=dict)
    unsynced: list[Mapping[str, _Node | None]] = field(default_factory=list)

    def change(self, changes: Mapping[str, _Node | None]) -> None:
        self.unsynced.append(changes)
        _rename(self.names, changes)

    def sync(self) -> None:
        self.kept = dict(self.names)
        self.unsynced.clear()

    def left(self, chance: Random) -> Mapping[str, _Node]:
        likelihood = chance.choice(LIKELIHOODS)
        left = dict(self.kept)
        for changes in self.unsynced:
            if chance.random() < likelihood:
                _rename(left, changes)
        return left


class LossyDisk:
    """What is below a folder, which itself is there for good."""

    def __init__(self, root: Path, tree: Tree | None = None) -> None:
        """tree: what is there, all of it synced."""
        self._root = root
        self._top = _Folder()
        for name, content in sorted((tree or {}).items()):
            folder = self._folder(root / name)
            folder.names[Path(name).name] = folder.kept[Path(name).name] = _node_of(content)

    def apply(self, call: Call) -> None:
        """Raises: ValueError for what is not modelled."""
        match call.what:
            case "say":
                pass
            case "write" | "resize":
                file = self._file(call.path)
                offset = len(file.content) if call.offset == APPENDED else call.offset
                file.change(_Write(offset, call.data) if call.what == "write" else _Resize(offset))
            case "sync":
                node = self._node(call.path)
                if isinstance(node, _File | _Folder):
                    node.sync()
            case _:
                self._change_names(call, self._folder(call.path))

    def _change_names(self, call: Call, folder: _Folder) -> None:
        name = call.path.name
        match call.what:
            case "make_folder":
                folder.change({name: _Folder()})
            case "create":
                if name not in folder.names:
                    folder.change({name: _File()})
            case "link":
                folder.change({name: _Link(call.target)})
            case "remove":
                folder.change({name: None})
            case "rename":
                target = Path(call.target)
                if target.parent != call.path.parent:
                    raise ValueError(f"a move to another folder is not modelled: {call}")
                folder.change({name: None, target.name: folder.names[name]})

    def now(self) -> Tree:
        """What programs see, and what is there when one of them is killed."""
        return _tree(self._top, lambda folder: folder.names, lambda file: bytes(file.content))

    def after_power_cut(self, chance: Random | None) -> Tree:
        """What a power cut may leave. chance: None for nothing but what was synced."""
        if chance is None:
            return _tree(self._top, lambda folder: folder.kept, lambda file: file.kept)
        return _tree(self._top, lambda folder: folder.left(chance), lambda file: file.left(chance))

    def _node(self, path: Path) -> _Node:
        node: _Node = self._top
        for name in path.relative_to(self._root).parts:
            if not isinstance(node, _Folder):
                raise ValueError(f"not a folder, on the way to {path}")
            node = node.names[name]
        return node

    def _folder(self, path: Path) -> _Folder:
        """The folder that a path is in."""
        node = self._node(path.parent)
        if not isinstance(node, _Folder):
            raise ValueError(f"{path.parent} is no folder")
        return node

    def _file(self, path: Path) -> _File:
        node = self._node(path)
        if not isinstance(node, _File):
            raise ValueError(f"{path} is no file")
        return node


def restore(tree: Tree, root: Path) -> None:
    """Make a folder hold a tree and nothing else."""
    root.mkdir(parents=True, exist_ok=True)
    there = tree_of(root)
    right = {name for name, content in there.items() if name in tree and tree[name] == content}
    for name in sorted(there.keys() - right, reverse=True):
        path = root / name
        if there[name] is None:
            path.rmdir()
        else:
            path.unlink()
    for name in sorted(tree.keys() - right):
        path, content = root / name, tree[name]
        if content is None:
            path.mkdir()
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)


def tree_of(root: Path) -> Tree:
    """What a folder holds."""

    def content(path: Path) -> bytes | str | None:
        return str(path.readlink()) if path.is_symlink() else None if path.is_dir() else path.read_bytes()

    return {str(path.relative_to(root)): content(path) for path in root.rglob("*")}


def _tree(top: _Folder, names: Callable[[_Folder], Mapping[str, _Node]], content: Callable[[_File], bytes]) -> Tree:
    tree: dict[str, bytes | str | None] = {}

    def walk(folder: _Folder, above: str) -> None:
        for name, node in names(folder).items():
            path = above + name
            if isinstance(node, _Folder):
                tree[path] = None
                walk(node, f"{path}/")
            elif isinstance(node, _Link):
                tree[path] = node.target
            elif isinstance(node, _File):
                tree[path] = content(node)

    walk(top, "")
    return tree


def _node_of(content: bytes | str | None) -> _Node:
    if content is None:
        return _Folder()
    return _Link(content) if isinstance(content, str) else _File(content, bytearray(content))


def _rename(names: dict[str, _Node], changes: Mapping[str, _Node | None]) -> None:
    for name, node in changes.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _sectors(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The pieces of a range that the borders of sectors cut it into."""
    while start < end:
        stop = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield start, stop
        start = stop


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if offset > len(content):
        _resize(content, offset)
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))
