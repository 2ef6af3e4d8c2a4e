"""A case: the environment of a job and the files that it finds. Its repr is all that is needed to run it again."""

import os
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HERE = "@@"  # in variables and contents of links: the case's own folder
INSIDE = "inner/case"  # the case's folder in that: what is written beside it is noticed


@dataclass(frozen=True, slots=True)
class Put:
    """Something at a path, in the place of what is there. content: of a file, or where a link leads to."""

    path: str
    kind: Literal["file", "folder", "link", "fifo", "nothing"]
    content: bytes = b""

    def apply(self, folder: Path) -> None:
        path = folder / self.path
        if self.kind != "nothing":
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        match self.kind:
            case "file":
                path.write_bytes(self.content)
            case "folder":
                path.mkdir()
            case "link":
                path.symlink_to(os.fsdecode(self.content).replace(HERE, str(folder)))
            case "fifo":
                os.mkfifo(path)


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of a file's bytes. at, to: positions, counted round and round the file; content: what comes there."""

    path: str
    how: Literal["flip", "overwrite", "insert", "cut", "drop", "copy"]
    at: int
    to: int = 0
    content: bytes = b""

    def apply(self, folder: Path) -> None:
        path = folder / self.path
        if path.is_file():
            with suppress(OSError):  # a link to what cannot be read or written
                path.write_bytes(self.edited(path.read_bytes()))

    def edited(self, old: bytes) -> bytes:
        at, to = (position % (len(old) + 1) for position in (self.at, self.to))
        match self.how:
            case "flip":
                return old[:at] + bytes(byte ^ 1 << self.to % 8 for byte in old[at : at + 1]) + old[at + 1 :]
            case "overwrite":
                return old[:at] + self.content + old[at + len(self.content) :]
            case "insert":
                return old[:at] + self.content + old[at:]
            case "cut":
                return old[:at]
            case "drop":
                return old[: min(at, to)] + old[max(at, to) :]
            case "copy":
                return old[:at] + old[min(at, to) : max(at, to)] + old[at:]


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL in a database, as far as it works."""

    path: str
    sql: str

    def apply(self, folder: Path) -> None:
        if (folder / self.path).is_file():
            with closing(sqlite3.connect(folder / self.path)) as connection:
                try:
                    connection.executescript(self.sql)
                except sqlite3.Error:
                    connection.rollback()


Step = Put | Edit | Statement


@dataclass(frozen=True, slots=True)
class Case:
    """variables: of the environment, beside and over the usual ones; start: the run folder that it begins with, `` for none."""

    area: str
    variables: tuple[tuple[str, str], ...] = ()
    steps: tuple[Step, ...] = ()
    start: str = ""

    def lay_out(self, folder: Path, starts: Mapping[str, Path]) -> Path:
        """Its files, in a folder that is not there yet. Returns the one that the job is to work in."""
        here = folder / INSIDE
        here.mkdir(parents=True)
        if self.start:
            shutil.copytree(starts[self.start], here, symlinks=True, dirs_exist_ok=True)
        for step in self.steps:
            step.apply(here)
        return here

    def environ(self, here: Path, base: Mapping[str, str]) -> dict[str, str]:
        return {name: value.replace(HERE, str(here)) for name, value in {**base, **dict(self.variables)}.items()}
