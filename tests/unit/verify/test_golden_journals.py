"""Runs that a release has written are read by every later one: folded to the same, and found sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from shanty_runtime.archive import SUFFIX
from shanty_runtime.verify import audit_of_archive
from support.golden_journals import JOURNALS, archives, folded, golden_of

MOST_BYTES = 300_000
each_archive = pytest.mark.parametrize(
    "archive", archives(), ids=lambda path: path.relative_to(JOURNALS).as_posix().removesuffix(SUFFIX)
)


@each_archive
def test_it_folds_to_what_it_folded_to_when_it_was_recorded(archive: Path) -> None:
    golden = golden_of(archive)
    assert folded(archive, golden.players) == golden.threads


@each_archive
def test_it_is_sound_chained_and_finished(archive: Path) -> None:
    audit, problem = audit_of_archive(archive)
    assert problem is None and audit.findings == ()
    assert audit.replied and audit.chained == audit.entries > 10
    assert (audit.waiting_mail, audit.open_delegations, audit.unsettled_calls) == ((), (), ())


def test_there_are_runs_of_every_kind_of_coordination_and_they_are_small() -> None:
    names = {path.name.removesuffix(SUFFIX) for path in (JOURNALS / "0.2.0").glob(f"*{SUFFIX}")}
    assert names >= {"approvals", "budget", "budget-raised", "fan-out", "hello", "incident", "nested", "stopped"}
    assert names >= {"answered-again", "fenced", "gathered", "graded", "hedged", "hired"}
    assert sum(path.stat().st_size for path in JOURNALS.rglob("*") if path.is_file()) < MOST_BYTES
