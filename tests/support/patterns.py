"""Subjects and patterns as NATS compares them."""

from __future__ import annotations


def covers(wide: str, narrow: str) -> bool:
    """Whether one pattern has every subject that the other has."""
    theirs = narrow.split(".")
    for place, token in enumerate(wide.split(".")):
        if token == ">":
            return len(theirs) > place
        if place >= len(theirs) or theirs[place] == ">" or token not in ("*", theirs[place]):
            return False
    return len(theirs) == len(wide.split("."))


def matches(pattern: str, subject: str) -> bool:
    """Whether a pattern has a subject, in which a wildcard stands for nothing but itself."""
    return covers(pattern, subject.replace(">", "literally").replace("*", "literally"))


def example(pattern: str) -> str:
    """A subject that the pattern has."""
    tokens = ["0-m" if token == "*" else token for token in pattern.split(".")]
    return ".".join([*tokens[:-1], "m", "m"]) if tokens[-1] == ">" else ".".join(tokens)
