"""What has to be true of a journal whose delegations are hedged.

A second thread is opened once for a brief, after its time, with that same brief. The first reply of either counts:
the other thread is told to stop before anything else is decided, unless it had been told before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from shanty_protocol import Brief, CancelSent, DelegationSent, ModelReplied, ThreadReplied
from simulation.kept import Kept
from simulation.team import HEDGE_AFTER_S


def problems(thread: str, journal: Sequence[Kept], by_subject: Mapping[str, Kept]) -> Iterator[str]:
    opened: dict[str, DelegationSent] = {}
    seconds: dict[str, str] = {}
    for each in journal:
        if not isinstance(sent := each.entry, DelegationSent):
            continue
        if sent.hedges:
            yield from _problems_of_second(thread, sent, opened.get(sent.hedges), seconds)
            seconds[sent.hedges] = sent.to_thread
        opened[sent.to_thread] = sent
    for first, second in seconds.items():
        yield from _problems_of_pair(journal, by_subject, first, second)


def _problems_of_second(
    thread: str, second: DelegationSent, first: DelegationSent | None, seconds: Mapping[str, str]
) -> Iterator[str]:
    if first is None or first.hedges:
        yield f"{second.to_thread} hedges {second.hedges}, which {thread} opened for no brief of its own"
        return
    if second.hedges in seconds:
        yield f"{second.hedges} was hedged by {seconds[second.hedges]} already, and then by {second.to_thread}"
    if second.at_ms - first.at_ms < HEDGE_AFTER_S * 1000:
        yield f"{second.hedges} was hedged after {second.at_ms - first.at_ms} ms"
    if _asked(first.brief) != _asked(second.brief):
        yield f"{second.to_thread} was given another brief than {second.hedges}"


def _problems_of_pair(
    journal: Sequence[Kept], by_subject: Mapping[str, Kept], first: str, second: str
) -> Iterator[str]:
    stopped: set[str] = set()
    winner = ""
    for each in journal:
        entry = each.entry
        if isinstance(entry, CancelSent) and entry.mode == "abort":
            stopped.add(entry.to_thread)
        decided = isinstance(entry, (ModelReplied, ThreadReplied)) and not entry.consumed
        if winner and decided and not stopped & {first, second}:
            yield f"{winner} has replied, and nobody stopped the other of {first} and {second}"
            return
        for subject in entry.consumed:
            mail = by_subject[subject]
            if isinstance(mail.entry, ThreadReplied) and mail.address.thread in (first, second):
                winner = winner or mail.address.thread
    if winner and not stopped & {first, second}:
        yield f"{winner} has replied, and the other of {first} and {second} was never stopped"


def _asked(brief: Brief) -> Brief:
    """What two threads have in common. What they may spend, and how long they have, is their own."""
    return msgspec.structs.replace(brief, deadline_s=None, budget=None)
