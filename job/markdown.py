"""Values in Markdown: whatever a name or setting holds, it ends no cell, no code and no fence, and starts nothing. Pure."""

import re

_SPECIAL = re.compile(r"[\\`*\[\]<>|&~$#!{}]|(?<![^\W_])_|_(?![^\W_])")


def prose(text: str) -> str:
    """Text as it is, in a line of its own words."""
    return _SPECIAL.sub(lambda found: f"\\{found[0]}", _one_line(text))


def code(text: str) -> str:
    """Text as code within a line."""
    text = _one_line(text)
    fence = "`" * (_longest_run(text) + 1)
    space = " " if text[:1] in ("", "`", " ") or text[-1:] in ("`", " ") else ""
    return f"{fence}{space}{text}{space}{fence}"


def in_cell(written: str) -> str:
    """Code in the cell of a table, where a bar would end the cell."""
    return written.replace("|", "\\|")


def block(text: str, language: str) -> str:
    """Lines of code."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _one_line(text: str) -> str:
    """What cannot be seen, or would end the line, by its number."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
