"""The rules of Bandit, which are ruff's S rules, hold for what is run, and each exception says why."""

import re
import tomllib

from tests.support import ROOT

LINT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
MOST_EXCEPTIONS = 5


def test_the_rules_are_on_for_the_job_as_a_whole() -> None:
    assert "S" in LINT["select"]
    assert not [rule for rule in LINT["ignore"] if rule.startswith("S")]
    off = {pattern: rules for pattern, rules in LINT["per-file-ignores"].items() if pattern.startswith("job")}
    assert not [rule for rules in off.values() for rule in rules if re.fullmatch(r"S\d*", rule)]


def test_exceptions_are_few_and_say_why() -> None:
    lines = [line for path in (ROOT / "job").rglob("*.py") for line in path.read_text(encoding="utf-8").splitlines()]
    exceptions = [line for line in lines if re.search(r"noqa:[^(]*\bS\d", line)]
    assert 0 < len(exceptions) <= MOST_EXCEPTIONS
    assert [line for line in exceptions if not re.search(r"noqa: S\d+ \(.+\)", line)] == []
