from __future__ import annotations

import itertools

import pytest

from shanty_runtime.triggers.definition import matches, overlap

PATTERNS = ("a", "a.b", "a.*", "a.>", "*.b", "a.*.c", "a.b.>", "b.>", "a.b.c", "*.*", "a.b.*.d")
SUBJECTS = [".".join(each) for length in (1, 2, 3, 4) for each in itertools.product("abcd", repeat=length)]


@pytest.mark.parametrize(
    ("pattern", "subject", "fits"),
    [
        ("alerts.>", "alerts.a", True),
        ("alerts.>", "alerts.a.b", True),
        ("alerts.>", "alerts", False),
        ("alerts.*", "alerts.a", True),
        ("alerts.*", "alerts.a.b", False),
        ("alerts.*.high", "alerts.a.high", True),
        ("alerts.a", "alerts.b", False),
        ("alerts", "alerts", True),
    ],
)
def test_a_pattern_stands_for_subjects_as_nats_has_it(pattern: str, subject: str, fits: bool) -> None:
    assert matches(pattern, subject) is fits


@pytest.mark.parametrize(("one", "other"), list(itertools.product(PATTERNS, repeat=2)))
def test_patterns_overlap_where_some_subject_is_one_of_both(one: str, other: str) -> None:
    both = any(matches(one, subject) and matches(other, subject) for subject in SUBJECTS)
    assert overlap(one, other) is both
