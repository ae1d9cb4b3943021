"""What the journals and the ledgers say when the storm is over."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from shanty_cli.chaos.ledgers import Ledgers, ModelCall
from shanty_cli.chaos.storm import Hit
from shanty_cli.chaos.workload import BOOKED, MAY_BE_UNKNOWN, SUMMARY, Ended
from shanty_protocol import DelegationSent, MessageSent, ModelReplied, ThreadReplied, ThreadTakenOver, subjects
from shanty_protocol.ids import lane_of
from shanty_protocol.streams import entry_stream
from shanty_runtime.bus import Bus, Stored, jetstream
from shanty_runtime.bus.journals import as_stored
from shanty_runtime.verify import Audit, audit_of_run

Peer = tuple[str, str]
"""An agent and one of its threads."""
MAIL = DelegationSent | MessageSent | ThreadReplied
STORED_AT = "Nats-Time-Stamp"
ELECTION_S = 10.0
"""How long after a fault of a server some of its streams may have no leader: another one is elected after nine
seconds of silence at most (nats-server, raft.go)."""


class Fact(msgspec.Struct, frozen=True):
    """An entry, and when the server stored it."""

    stored: Stored
    at_ms: int


class Recovery(msgspec.Struct, frozen=True):
    seconds: float
    """Since the last fault that stood in the way."""
    standstill_s: float
    """Since the first."""
    what: str
    of_server: bool
    """Whether a server was hit as well, or just before: then a lease is not all that had to be waited for."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Fields are only ever added."""

    seed: int
    nodes: int
    runs: int
    kills: int
    server_kills: int
    """Those of `kills` that hit the bus."""
    pauses: int
    partitions: int
    takeovers: int
    """How often a thread went on elsewhere because its worker had gone."""
    lost: int
    """Runs that did not end as they should, and effects of theirs that did not happen."""
    repeated_effects: int
    repeated_model_calls: int
    """Calls for a turn whose reply was in the journal."""
    unanswered: int
    """Delegations that have no reply."""
    unsound: int
    """Entries that `shanty verify` finds wrong, and what was left lying."""
    unknown_effects: int
    """Effects of which nobody could say whether they had happened, and which nobody tried again."""
    worst_recovery_s: float
    """From the last fault in the way until the thread, or the bus, went on; a lone server has to be back first."""
    worst_recovery: str
    """What took that long."""
    worst_takeover_s: float
    """The same of threads that lost their worker and nothing else: no server was hit meanwhile or just before."""
    worst_standstill_s: float
    """From the first of the faults in the way, which may be several in a row."""
    problems: tuple[str, ...]
    """What was wrong, a sentence each."""

    @property
    def clean(self) -> bool:
        return not self.problems


async def audit(
    bus: Bus,
    ended: Sequence[Ended],
    hits: Sequence[Hit],
    deaths: Sequence[str],
    ledgers: Ledgers,
    *,
    seed: int,
    nodes: int,
) -> Report:
    """Read everything that is stored of the runs, and hold it against what happened outside."""
    effects, calls = ledgers.effects(), ledgers.model_calls()
    lost, paid_twice, open_questions, wrong, stored_ms = [], [], [], [], []
    waits: list[Recovery] = []
    takeovers = 0
    for each in ended:
        facts = await facts_of(bus, each.run)
        stored_ms += [fact.at_ms for fact in facts]
        lost += losses(each, [what for key, what in effects if key.startswith(f"{each.run}.")])
        paid_twice += repeated_model_calls(each.run, facts, calls)
        found = await audit_of_run(bus, each.run)
        open_questions += unanswered(found)
        wrong += unsound(found)
        waits += recoveries(facts, hits, alone=nodes == 1)
        takeovers += sum(isinstance(fact.stored.entry, ThreadTakenOver) for fact in facts)
    waits += bus_recoveries(sorted(stored_ms), hits, alone=nodes == 1)
    worst = max(waits, key=lambda wait: wait.seconds, default=Recovery(0.0, 0.0, "", False))
    twice = repeated_effects(effects)
    kinds = Counter(hit.fault.kind for hit in hits)
    return Report(
        seed=seed,
        nodes=nodes,
        runs=len(ended),
        kills=kinds["kill"],
        server_kills=sum(hit.fault.kind == "kill" and not hit.agent for hit in hits),
        pauses=kinds["pause"],
        partitions=kinds["partition"],
        takeovers=takeovers,
        lost=len(lost),
        repeated_effects=len(twice),
        repeated_model_calls=len(paid_twice),
        unanswered=len(open_questions),
        unsound=len(wrong),
        unknown_effects=sum(each.outcome.summary.count("unknown") for each in ended if each.outcome is not None),
        worst_recovery_s=round(worst.seconds, 3),
        worst_recovery=worst.what,
        worst_takeover_s=round(max((wait.seconds for wait in waits if not wait.of_server), default=0.0), 3),
        worst_standstill_s=round(max((wait.standstill_s for wait in waits), default=0.0), 3),
        problems=(*lost, *twice, *paid_twice, *open_questions, *wrong, *deaths),
    )


async def facts_of(bus: Bus, run: str) -> list[Fact]:
    """Everything that is stored of a run, in the order it was stored."""
    found = []
    stream = entry_stream(lane_of(run))
    async for message in jetstream.read_on(bus.connection, stream, subjects.run_filter(run)):
        found.append(Fact(as_stored(message), _milliseconds(message.headers[STORED_AT])))
    return found


def losses(ended: Ended, effects: Sequence[str]) -> list[str]:
    """What a run should have done and has not."""
    if ended.outcome is None:
        return [f"{ended.run} did not end"]
    status, summary = ended.outcome.status, ended.outcome.summary
    fits = SUMMARY.fullmatch(summary)
    if status != "ok" or fits is None:
        return [f"{ended.run} ended {status}: {summary}"]
    wanted = [*BOOKED, *(each for each in MAY_BE_UNKNOWN if each not in fits["unknown"])]
    return [f"{ended.run}: {each} did not happen" for each in wanted if each not in effects]


def repeated_effects(effects: Iterable[tuple[str, str]]) -> list[str]:
    """Effects that happened more than once under one key, or under two keys in one run."""
    by_run: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for key, what in effects:
        by_run[key.partition(".")[0]].append((key, what))
    return [
        f"{run}: {what} happened {times} times"
        for run, found in by_run.items()
        for what, times in Counter(what for _, what in found).items()
        if times > 1
    ]


def repeated_model_calls(run: str, facts: Sequence[Fact], calls: Sequence[ModelCall]) -> list[str]:
    """Calls that began after the reply to their turn was written down."""
    journaled_ms: dict[tuple[str, int], int] = {}
    turns: Counter[str] = Counter()
    for fact in facts:
        if isinstance(fact.stored.entry, ModelReplied):
            agent = fact.stored.address.agent
            journaled_ms[agent, turns[agent]] = fact.stored.entry.at_ms
            turns[agent] += 1
    return [
        f"{run}: turn {call.turn} of {call.agent} was paid for again after it was journaled"
        for call in calls
        if call.run == run and call.at_ms > journaled_ms.get((call.agent, call.turn), call.at_ms)
    ]


def unsound(found: Audit) -> list[str]:
    """What is wrong in the journals of a run, or was left lying there when it had ended."""
    told = [f"{finding.subject}: {finding.what}" for finding in found.findings]
    told += [f"{call}: nobody has noted what became of this call" for call in found.unsettled_calls]
    return told + [f"{mail}: nobody has taken this mail in" for mail in found.waiting_mail]


def unanswered(found: Audit) -> list[str]:
    """Threads that have not replied to what they were asked last."""
    return [
        f"{each.subject}: thread {each.thread} of {each.agent} has not replied" for each in found.open_delegations
    ]


def recoveries(facts: Sequence[Fact], hits: Sequence[Hit], *, alone: bool) -> list[Recovery]:
    """How long each thread of a run that lost its worker waited for another one.

    Faults come faster than a lease runs out, so several may stand in a thread's way. What counts is the time from the
    last of them on: of those that hit the bus or a replica of the agent since there was something to do.
    """
    found = []
    last_step_ms: dict[Peer, int] = {}
    mails_ms: dict[Peer, dict[str, int]] = defaultdict(dict)
    for fact in facts:
        address, entry = fact.stored.address, fact.stored.entry
        thread = (address.agent, address.thread)
        if isinstance(entry, ThreadTakenOver):
            since_ms = max(last_step_ms.get(thread, 0), min(mails_ms[thread].values(), default=0))
            in_the_way = [
                hit for hit in hits if hit.agent in ("", address.agent) and since_ms <= hit.at_ms <= fact.at_ms
            ]
            if in_the_way:
                first_ms = min(hit.at_ms for hit in in_the_way)
                last_ms = max(_stood_until_ms(hit, fact.at_ms, alone=alone) for hit in in_the_way)
                found.append(
                    Recovery(
                        (fact.at_ms - last_ms) / 1000,
                        (fact.at_ms - first_ms) / 1000,
                        f"thread {address.thread} of {address.run}",
                        _hits_server(hits, first_ms - int(ELECTION_S * 1000), fact.at_ms),
                    )
                )
        last_step_ms[thread] = entry.at_ms
        for subject in entry.consumed:
            mails_ms[thread].pop(subject, None)
        if isinstance(entry, MAIL):
            mails_ms[address.to, entry.to_thread][address.subject] = fact.at_ms
    return found


def _hits_server(hits: Sequence[Hit], since_ms: int, until_ms: int) -> bool:
    return any(not hit.agent and since_ms <= max(hit.at_ms, hit.back_at_ms) and hit.at_ms <= until_ms for hit in hits)


def _stood_until_ms(hit: Hit, recovered_ms: int, *, alone: bool) -> int:
    """From when on others could go on although this had happened.

    Who is paused or cut off and is overtaken meanwhile had the thread: others could go on from the start. Who is back
    before it goes on may have been the one that was to take over. A lone server has nobody that goes on for it.
    """
    if hit.fault.kind == "kill" and (hit.agent or not alone):
        return hit.at_ms
    return hit.back_at_ms if hit.back_at_ms <= recovered_ms else hit.at_ms


def bus_recoveries(stored_ms: Sequence[int], hits: Sequence[Hit], *, alone: bool) -> list[Recovery]:
    """How long nothing was stored after a server was hit, or, where it was `alone`, after it was back.

    `stored_ms` is sorted.
    """
    found = []
    for hit in hits:
        if not hit.agent:
            since_ms = hit.back_at_ms if alone else hit.at_ms
            position = bisect_right(stored_ms, since_ms)
            if position < len(stored_ms):
                went_on_ms, what = stored_ms[position], f"the bus, after {hit.replica} was hit"
                found.append(Recovery((went_on_ms - since_ms) / 1000, (went_on_ms - hit.at_ms) / 1000, what, True))
    return found


def _milliseconds(timestamp: str) -> int:
    """Of the server's `2026-01-31T12:00:00.123456789Z`."""
    return int(datetime.fromisoformat(timestamp).timestamp() * 1000)
