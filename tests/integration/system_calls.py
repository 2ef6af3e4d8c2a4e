"""What a process does to the files below a folder, and what it says, in the kernel's order: strace, and its output read."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.integration.lossy_disk import APPENDED, Call
from tests.support import ROOT, environment

_OF_NAMES = (
    *("mkdir", "mkdirat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "symlink", "symlinkat"),
    *("link", "linkat"),
)
_OF_FILES = (
    *("open", "openat", "creat", "write", "pwrite64", "writev", "pwritev", "pwritev2", "lseek", "truncate", "ftruncate"),
    *("fallocate", "copy_file_range", "sendfile", "sync_file_range", "fsync", "fdatasync"),
)
_LINE = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)(?P<rest>.*)")
_BEGUN = re.compile(r"(?P<pid>\d+) +(?P<begun>\w+\(.*) <unfinished \.\.\.>")
_ENDED = re.compile(r"(?P<pid>\d+) +<\.\.\. \w+ resumed>(?P<rest>.*)")
_HEX = re.compile(r"(?:\\x[0-9a-f]{2})*")
_OPEN_FILE = re.compile(r"(?P<number>\d+|AT_FDCWD)<(?P<path>[^>]*)>(?P<deleted>\(deleted\))?")


def why_not() -> str:
    """Why nothing can be recorded here; empty where it can."""
    if not shutil.which("strace"):
        return "strace is not installed"
    probe = subprocess.run(["strace", "-f", "--seccomp-bpf", "-o", os.devnull, "true"], capture_output=True, text=True)
    return "" if probe.returncode == 0 else f"strace may not trace here: {probe.stderr.strip()[:200]}"


def record(command: Sequence[str], variables: Mapping[str, object], root: Path, scratch: Path) -> tuple[int, Sequence[Call]]:
    """Run a job to its end. Returns: its exit code; what it did below `root`, and the lines that it said.

    A line counts from when it begins to be written, all else from when it was done.
    """
    log, said = scratch / "strace", scratch / "stdout"
    tracing = ["strace", "-f", "--seccomp-bpf", "-y", "-xx", "-s", str(2**24), "-e", "signal=none", "-o", str(log)]
    names = ",".join(f"?{name}" for name in (*_OF_NAMES, *_OF_FILES))  # an architecture lacks some
    with said.open("wb") as out:
        job = [*tracing, "-e", f"trace={names}", *command]
        code = subprocess.run(job, cwd=ROOT, env=environment(**variables), stdout=out, stderr=out, timeout=120).returncode
    with log.open(encoding="ascii") as lines:
        return code, list(_Reader(root.resolve(), said.resolve()).calls(lines))


class _Reader:
    """Lines of strace -> calls. Offsets are kept by descriptor: only one process works below the folder."""

    def __init__(self, root: Path, said: Path) -> None:
        self._root = root
        self._said = said
        self._offsets: dict[str, int] = {}
        self._ours = tuple("".join(f"\\x{byte:02x}" for byte in os.fsencode(path)) for path in (root, said))

    def calls(self, lines: Iterator[str]) -> Iterator[Call]:
        begun: dict[str, str] = {}
        for text in lines:
            line = text.rstrip("\n")
            if not any(path in line for path in self._ours) and line.split(" ", 1)[0] not in begun:
                continue  # of some ten thousand that read libraries
            if start := _BEGUN.fullmatch(line):
                begun[start["pid"]] = start["begun"]
                yield from self._spoken(start["begun"])
                continue
            whole = line
            if end := _ENDED.fullmatch(line):
                whole = f"{end['pid']} {begun.pop(end['pid'])}{end['rest']}"
            elif done := _LINE.fullmatch(line):
                yield from self._spoken(f"{done['name']}({done['arguments']}")
            if (done := _LINE.fullmatch(whole)) and int(done["result"]) >= 0:
                arguments = done["arguments"].split(", ")
                yield from self._call(done["name"], arguments, int(done["result"]), done["rest"])

    def _spoken(self, begun: str) -> Iterator[Call]:
        name, _, arguments = begun.partition("(")
        if name == "write" and (file := self._file(arguments)) and file[1] == self._said:
            yield Call("say", self._said, _bytes(arguments.split(", ")[1]))

    def _call(self, name: str, arguments: Sequence[str], result: int, rest: str) -> Iterator[Call]:
        match name:
            case "open" | "openat" | "creat":
                yield from self._opened(arguments, f"{result}{rest}")
            case _ if name in _OF_NAMES:
                yield from self._renamed(name, arguments)
            case _:
                yield from self._written(name, arguments, result)

    def _opened(self, arguments: Sequence[str], descriptor: str) -> Iterator[Call]:
        file = self._file(descriptor)
        if file is None or not self._is_ours(file[1]):
            return
        number, path = file
        flags = next(argument for argument in arguments if argument.startswith("O_")).split("|")
        self._offsets[number] = APPENDED if "O_APPEND" in flags else 0
        if "O_CREAT" in flags:
            yield Call("create", path)
        if "O_TRUNC" in flags:
            yield Call("resize", path)

    def _renamed(self, name: str, arguments: Sequence[str]) -> Iterator[Call]:
        paths = list(self._paths(arguments))
        if not paths or not self._is_ours(paths[-1]):
            return
        if name.startswith("mkdir"):
            yield Call("make_folder", paths[0])
        elif name.startswith("rename"):
            yield Call("rename", paths[0], target=str(paths[1]))
        elif name.startswith("symlink"):
            yield Call("link", paths[-1], target=_bytes(arguments[0]).decode())
        elif name in ("rmdir", "unlink", "unlinkat"):
            yield Call("remove", paths[0])
        else:
            raise ValueError(f"{name} of {paths} is not modelled")

    def _written(self, name: str, arguments: Sequence[str], result: int) -> Iterator[Call]:
        file = self._file(arguments[0])
        if file is None or not self._is_ours(file[1]):
            return
        number, path = file
        match name:
            case "lseek":
                if self._offsets.get(number) != APPENDED:
                    self._offsets[number] = result
            case "write":
                offset = self._offsets[number]
                yield Call("write", path, _bytes(arguments[1])[:result], offset)
                if offset != APPENDED:
                    self._offsets[number] += result
            case "pwrite64":
                yield Call("write", path, _bytes(arguments[1])[:result], int(arguments[3]))
            case "ftruncate":
                yield Call("resize", path, offset=int(arguments[1]))
            case "fsync" | "fdatasync":
                yield Call("sync", path)
            case _:
                raise ValueError(f"{name} of {path} is not modelled")

    def _file(self, argument: str) -> tuple[str, Path] | None:
        """Number and path of an open file; None where it has no name."""
        found = _OPEN_FILE.match(argument)
        if found is None or found["deleted"] or found["number"] == "AT_FDCWD":
            return None
        return found["number"], Path(os.fsdecode(_bytes(found["path"])))

    def _paths(self, arguments: Sequence[str]) -> Iterator[Path]:
        """The paths among arguments, those that are relative below the folder before them."""
        below = Path()
        for argument in arguments:
            if folder := _OPEN_FILE.match(argument):
                below = Path(os.fsdecode(_bytes(folder["path"])))
            elif argument.startswith('"'):
                yield below / os.fsdecode(_bytes(argument))

    def _is_ours(self, path: Path) -> bool:
        return self._root == path or self._root in path.parents


def _bytes(text: str) -> bytes:
    text = text.strip('"')
    if not _HEX.fullmatch(text):
        raise ValueError(f"strace left something out: {text[-40:]}")
    return bytes.fromhex(text.replace("\\x", ""))
