from __future__ import annotations

from typing import Any

import pytest

from shanty_protocol import (
    EffectAnswered,
    EffectEnded,
    EffectFenced,
    EffectInquired,
    EffectRequested,
    EffectStarted,
    Entry,
    ProtocolError,
    ThreadOpened,
    codec,
)
from shanty_protocol.subjects import effect_address
from shanty_runtime.bus import Stored
from shanty_toolgateway.effect import OTHER_ARGUMENTS, WITHDRAWN, Effect, Step, decide, fold

RUN, AGENT, THREAD, CALL = "0-r", "clerk", "0-1", "toolu_1"
CALLED: dict[str, Any] = {"agent": AGENT, "thread": THREAD, "call_id": CALL}


def fenced(fence: int, **said: Any) -> EffectFenced:
    return EffectFenced(at_ms=1, fence=fence, **CALLED, **said)


def started(fence: int) -> EffectStarted:
    return EffectStarted(at_ms=2, fence=fence, **CALLED, name="post", digest="d")


def ended(fence: int, **said: Any) -> EffectEnded:
    return EffectEnded(at_ms=3, fence=fence, call_id=CALL, **said)


def effect(*entries: Entry) -> Effect:
    places = (effect_address(RUN, AGENT, THREAD, CALL, n) for n in range(len(entries)))
    return fold(
        Stored(place, n + 1, codec.encode(entry), {})
        for n, (place, entry) in enumerate(zip(places, entries, strict=True))
    )


def asked(kind: type[EffectRequested | EffectInquired], fence: int, **said: Any) -> EffectRequested | EffectInquired:
    return kind(run=RUN, thread=THREAD, call_id=CALL, name="post", fence=fence, **{"digest": "d", **said})


def requested(known: Effect, fence: int, **said: Any) -> Step:
    return decide(known, asked(EffectRequested, fence, **said))


def inquired(known: Effect, fence: int, **said: Any) -> Step:
    return decide(known, asked(EffectInquired, fence, **said))


def test_a_call_that_nobody_knows_of_is_started_or_fenced() -> None:
    assert requested(effect(), 5) == "start"
    assert inquired(effect(), 5) == "fence"


def test_whoever_was_told_that_it_never_started_may_start_it_and_nobody_before_them() -> None:
    known = effect(fenced(6))

    assert inquired(known, 6) == EffectAnswered(status="never_started")
    assert requested(known, 6) == "start"
    assert isinstance(refused := requested(known, 5), EffectAnswered) and refused.status == "refused"
    assert inquired(known, 7) == "fence", "the one with the lease before it must not start it either"


def test_what_was_started_is_never_started_again() -> None:
    known = effect(fenced(6), started(6))

    assert [requested(known, 6), requested(known, 7), inquired(known, 7)] == ["recover"] * 3
    assert isinstance(refused := inquired(known, 5), EffectAnswered) and refused.status == "refused"


@pytest.mark.parametrize(
    ("end", "answer"),
    [
        (ended(6, content="done"), EffectAnswered(status="result", content="done")),
        (ended(6, status="error", content="no"), EffectAnswered(status="result", content="no", is_error=True)),
        (ended(6, status="unknown"), EffectAnswered(status="unknown")),
    ],
)
def test_what_it_gave_is_the_answer_to_everybody_who_may_ask(end: EffectEnded, answer: EffectAnswered) -> None:
    known = effect(started(6), end)

    assert requested(known, 6) == inquired(known, 9) == answer


def test_other_arguments_under_the_same_id_are_another_call_and_are_not_made() -> None:
    for known in (effect(started(6)), effect(started(6), ended(6, content="done"))):
        answer = requested(known, 6, digest="other")
        assert answer == EffectAnswered(status="result", is_error=True, content=OTHER_ARGUMENTS)


def test_what_is_withdrawn_cannot_be_started_by_anybody() -> None:
    assert inquired(effect(fenced(6)), 6, withdraw=True) == "fence"
    known = effect(fenced(6), fenced(6, withdrawn=True))

    assert inquired(known, 6, withdraw=True) == EffectAnswered(status="never_started")
    assert requested(known, 8) == EffectAnswered(status="result", is_error=True, content=WITHDRAWN)


def test_a_journal_with_something_else_in_it_is_left_alone() -> None:
    with pytest.raises(ProtocolError, match="no entry about a call"):
        effect(ThreadOpened(at_ms=1))


def test_calls_of_different_agents_threads_and_ids_have_journals_of_their_own() -> None:
    calls = [(AGENT, THREAD, CALL), ("other", THREAD, CALL), (AGENT, "0-2", CALL), (AGENT, THREAD, "toolu_2")]
    assert len({effect_address(RUN, *call, 0).subject for call in calls}) == len(calls)
