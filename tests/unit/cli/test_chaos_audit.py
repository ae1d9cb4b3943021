"""Each thing the audit looks for is planted once: an audit that cannot fail would be none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shanty_cli.chaos.audit import (
    Fact,
    bus_recoveries,
    losses,
    recoveries,
    repeated_effects,
    repeated_model_calls,
    unanswered,
    unsound,
)
from shanty_cli.chaos.faults import Fault
from shanty_cli.chaos.ledgers import Ledgers, ModelCall
from shanty_cli.chaos.storm import Hit
from shanty_cli.chaos.workload import BOOKED, Ended
from shanty_protocol import (
    Brief,
    DelegationSent,
    Entry,
    EntryAddress,
    ModelReplied,
    Outcome,
    ThreadReplied,
    ThreadTakenOver,
    Usage,
)
from shanty_protocol.codec import encode
from shanty_runtime.bus import Stored
from shanty_runtime.verify import Audit, Finding, OpenDelegation

RUN = "0-run"
GOOD = Outcome(status="ok", summary="booked 29; counted 16")
EVERYTHING = [*BOOKED, "ring", "post"]


def fact(thread: str, agent: str, entry: Entry, *, n: int = 0, to: str = "log", at_ms: int = 0) -> Fact:
    address = EntryAddress(to, RUN, thread, agent, n)
    return Fact(Stored(address, n + 1, encode(entry), {}), at_ms or entry.at_ms)


def model_reply(at_ms: int) -> ModelReplied:
    return ModelReplied(at_ms=at_ms, blocks=(), stop_reason="end_turn", model="rehearsal", usage=Usage())


def opened(thread: str) -> DelegationSent:
    return DelegationSent(at_ms=1, to_thread=thread, brief=Brief(objective="count"))


def answer_of_clerk() -> ThreadReplied:
    return ThreadReplied(at_ms=9, to_thread="0", answers="x", outcome=GOOD)


def hit(kind: str, replica: str, agent: str, at_ms: int, back_at_ms: int = 0) -> Hit:
    fault = Fault(kind="kill" if kind == "kill" else "pause", target=replica, wait_s=0)
    return Hit(fault=fault, replica=replica, agent=agent, at_ms=at_ms, back_at_ms=back_at_ms)


def test_a_run_that_did_all_it_should_has_lost_nothing() -> None:
    assert losses(Ended(run=RUN, outcome=GOOD), EVERYTHING) == []


def test_a_run_that_did_not_end_is_lost() -> None:
    assert losses(Ended(run=RUN, outcome=None), EVERYTHING) == ["0-run did not end"]


@pytest.mark.parametrize("outcome", [Outcome(status="ok", summary="booked 16; counted 16"), Outcome(status="failed")])
def test_a_run_that_ended_with_another_result_is_lost(outcome: Outcome) -> None:
    assert len(losses(Ended(run=RUN, outcome=outcome), EVERYTHING)) == 1


@pytest.mark.parametrize("missing", EVERYTHING)
def test_an_effect_that_did_not_happen_is_lost(missing: str) -> None:
    effects = [each for each in EVERYTHING if each != missing]
    assert losses(Ended(run=RUN, outcome=GOOD), effects) == [f"0-run: {missing} did not happen"]


def test_an_effect_that_is_said_to_be_unknown_may_have_happened_or_not() -> None:
    unknown = Ended(run=RUN, outcome=Outcome(status="ok", summary="booked 29, ring unknown; counted 16"))
    assert losses(unknown, EVERYTHING) == []
    assert losses(unknown, [*BOOKED, "post"]) == []
    assert losses(unknown, [*BOOKED, "ring"]) == ["0-run: post did not happen"]


def test_an_effect_that_happened_twice_is_found_under_one_key_and_under_two() -> None:
    assert repeated_effects([("0-run.0-1.a", "ring"), ("0-run.0-1.b", "post"), ("0-other.0-1.a", "ring")]) == []
    assert repeated_effects([("0-run.0-1.a", "ring")] * 2) == ["0-run: ring happened 2 times"]
    assert repeated_effects([("0-run.0-1.a", "ring"), ("0-run.0-1.b", "ring")]) == ["0-run: ring happened 2 times"]


def test_a_model_call_that_began_after_its_reply_was_journaled_was_paid_for_in_vain() -> None:
    facts = [fact("0", "lead", model_reply(100)), fact("0", "lead", model_reply(200), n=1)]
    in_time = [
        ModelCall(run=RUN, agent="lead", turn=0, at_ms=50),
        ModelCall(run=RUN, agent="lead", turn=1, at_ms=150),
    ]
    again = ModelCall(run=RUN, agent="lead", turn=0, at_ms=150)
    assert repeated_model_calls(RUN, facts, in_time) == []
    assert len(repeated_model_calls(RUN, facts, [*in_time, again])) == 1


def audited(**what: Any) -> Audit:
    nothing: dict[str, Any] = {
        "findings": (),
        "notes": (),
        "open_delegations": (),
        "waiting_mail": (),
        "unsettled_calls": (),
    }
    return Audit(run=RUN, entries=9, journals=2, chained=9, replied=True, **{**nothing, **what})


def test_a_thread_that_has_not_replied_is_unanswered() -> None:
    waiting = OpenDelegation(subject="shanty.0.clerk.0-run.0.lead.2", thread="0-1", agent="clerk")
    assert unanswered(audited()) == []
    assert len(unanswered(audited(open_delegations=(waiting,)))) == 1


def test_what_an_audit_finds_wrong_and_what_was_left_lying_is_told() -> None:
    finding = Finding(subject="shanty.0.log.0-run.0.lead.2", seq=3, rule="chain", what="its body was altered")
    assert unsound(audited()) == []
    assert len(unsound(audited(findings=(finding,), unsettled_calls=("a",), waiting_mail=("b", "c")))) == 4


TAKEN_OVER = [
    fact("0-1", "clerk", model_reply(1_000)),
    fact("0-1", "clerk", ThreadTakenOver(at_ms=6_000), n=1),
]


def measured(facts: list[Fact], hits: list[Hit], *, alone: bool = False) -> list[tuple[float, float]]:
    return [(found.seconds, found.standstill_s) for found in recoveries(facts, hits, alone=alone)]


def test_a_recovery_is_measured_from_the_last_fault_in_the_way_and_a_standstill_from_the_first() -> None:
    hits = [
        hit("kill", "clerk-1", "clerk", 500),
        hit("kill", "lead-1", "lead", 5_900),
        hit("kill", "clerk-1", "clerk", 2_000),
        hit("kill", "clerk-2", "clerk", 3_000),
    ]
    assert measured(TAKEN_OVER, hits) == [(3.0, 4.0)]


def test_who_is_overtaken_while_it_is_paused_had_the_thread_from_the_pauses_start() -> None:
    paused = hit("pause", "clerk-1", "clerk", 2_000, back_at_ms=9_000)
    assert measured(TAKEN_OVER, [paused]) == [(4.0, 4.0)]


def test_who_takes_over_once_it_is_back_from_a_pause_could_not_before() -> None:
    killed = hit("kill", "clerk-1", "clerk", 2_000)
    paused = hit("pause", "clerk-2", "clerk", 2_500, back_at_ms=5_500)
    assert measured(TAKEN_OVER, [killed, paused]) == [(0.5, 4.0)]


def test_an_outage_of_the_bus_stands_in_everybodys_way() -> None:
    killed, server = hit("kill", "clerk-1", "clerk", 2_000), hit("kill", "nats-1", "", 3_000, back_at_ms=4_500)
    assert measured(TAKEN_OVER, [killed, server], alone=True) == [(1.5, 4.0)]
    assert measured(TAKEN_OVER, [killed, server], alone=False) == [(3.0, 4.0)]


def test_a_takeover_while_servers_elect_leaders_is_told_apart_from_one_that_waits_for_a_lease_alone() -> None:
    killed = hit("kill", "clerk-1", "clerk", 2_000)

    def of_server(*servers: Hit) -> list[bool]:
        return [found.of_server for found in recoveries(TAKEN_OVER, [killed, *servers], alone=False)]

    assert of_server() == [False]
    assert of_server(hit("kill", "nats-1", "", 3_000)) == [True]
    assert of_server(hit("kill", "nats-1", "", -7_000)) == [True]
    assert of_server(hit("pause", "nats-1", "", -9_000, back_at_ms=-7_000)) == [True]
    assert of_server(hit("kill", "nats-1", "", -9_000, back_at_ms=-8_500)) == [False]
    assert of_server(hit("kill", "nats-1", "", 6_500)) == [False]


def test_a_fault_before_the_mail_that_woke_a_resting_thread_is_not_what_it_recovered_from() -> None:
    facts = [
        fact("0", "lead", model_reply(1_000)),
        fact("0-1", "clerk", answer_of_clerk(), to="lead", at_ms=5_000),
        fact("0", "lead", ThreadTakenOver(at_ms=8_000), n=1),
    ]
    hits = [hit("kill", "lead-1", "lead", 2_000), hit("kill", "lead-2", "lead", 5_500)]
    assert measured(facts, hits) == [(2.5, 2.5)]


def test_a_lone_server_is_waited_for_from_when_it_is_back_and_one_of_three_from_when_it_was_hit() -> None:
    hits = [hit("kill", "nats-1", "", 1_000, back_at_ms=2_000)]
    stored_ms = [500, 2_500, 9_000]
    assert [found.seconds for found in bus_recoveries(stored_ms, hits, alone=True)] == [0.5]
    assert [found.seconds for found in bus_recoveries(stored_ms, hits, alone=False)] == [1.5]


def test_the_ledger_books_a_key_once_and_counts_what_is_done_twice(tmp_path: Path) -> None:
    ledgers = Ledgers(tmp_path)
    ledgers.effect_once("a", "book 3")
    ledgers.effect_once("a", "book 3")
    ledgers.effect("b", "ring")
    ledgers.effect("b", "ring")
    ledgers.model_call(RUN, "lead", 2)
    assert ledgers.effects() == [("a", "book 3"), ("b", "ring"), ("b", "ring")]
    assert ledgers.has_effect("b") and not ledgers.has_effect("c")
    assert [(call.run, call.agent, call.turn) for call in ledgers.model_calls()] == [(RUN, "lead", 2)]
