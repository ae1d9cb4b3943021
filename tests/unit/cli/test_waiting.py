"""What a view of a run says of people: who is asked what, what was said, and what is void."""

from __future__ import annotations

import io
from collections.abc import Callable

import msgspec
import pytest
from rich.console import RenderableType

from shanty_cli.exits import UsageError
from shanty_cli.inbox import arguments_from, shown
from shanty_cli.output import Output
from shanty_cli.report import report
from shanty_cli.waiting import budget_of, id_of
from shanty_protocol import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalRuled,
    ApprovalStanding,
    Budget,
    BudgetRequested,
    CancelSent,
    EntryAddress,
    Outcome,
    QuestionAnswered,
    QuestionAsked,
    Spent,
    TimerFired,
)
from shanty_protocol.subjects import decision_address, parse_entry, standing_address
from support.script import RUN, Script


@pytest.fixture
def asking(script: Script) -> Script:
    """A specialist at work."""
    script.start()
    script.open("0", "lead")
    script.delegate("0-1", "clerk", "the bill")
    script.open("0-1", "clerk")
    script.happenings.clear()
    return script


def asks_approval(script: Script, thread: str = "0-1", agent: str = "clerk") -> str:
    entry = ApprovalRequested(
        at_ms=script.now_ms,
        by=f"{agent}-1",
        to_thread="inbox",
        call_id="call-1",
        name="pay",
        arguments={"to": "x\n", "cents": 5},
        digest="ab" * 32,
        expires_at_ms=script.now_ms + 60_000,
        policy="the team's permissions",
    )
    return script.write(thread, agent, entry, "operators")


def asks(script: Script, to: str, question: str = "which?", on_behalf_of: str = "", by: str = "clerk") -> str:
    entry = QuestionAsked(
        at_ms=script.now_ms,
        by=f"{by}-1",
        to_thread="inbox" if to == "operators" else "0",
        question=question,
        expires_at_ms=script.now_ms + 60_000,
        on_behalf_of=on_behalf_of,
    )
    return script.write("0" if by == "lead" else "0-1", by, entry, to)


def decided(script: Script, request: str, decision: str = "deny") -> None:
    place = decision_address(parse_entry(request))
    entry = ApprovalDecided(
        at_ms=script.now_ms,
        to_thread="0-1",
        request=request,
        digest="ab" * 32,
        decision=decision,  # type: ignore[arg-type]  # one of the four
        person="mara",
        message="not now",
    )
    script.write(place.thread, "operators", entry, "clerk")


def test_a_run_waits_while_a_person_has_to_decide(asking: Script) -> None:
    request = asks_approval(asking)
    thread = asking.view.threads["0-1"]
    assert (asking.view.status, thread.status) == ("waiting", "waiting")
    assert thread.doing == f"waits for approval ({id_of(request)})"
    text = r'asks for approval of pay {"cents":5,"to":"x\n"}; shanty inbox show '
    assert asking.told == [("0-1", "asked", text + id_of(request))]
    (waiting,) = report(asking.view)["waiting"]
    assert (waiting["kind"], waiting["tool"], waiting["arguments"]) == ("approval", "pay", {"to": "x\n", "cents": 5})
    assert (waiting["thread"], waiting["agent"], waiting["request"]) == ("0-1", "clerk", request)


def test_what_a_person_decided_is_shown_and_the_run_goes_on(asking: Script) -> None:
    request = asks_approval(asking)
    decided(asking, request)
    assert asking.view.status == "running"
    assert asking.told[-1] == ("0-1", "answered", "mara says: deny not now")


def test_what_is_allowed_without_asking_is_shown_with_what_allows_it(asking: Script) -> None:
    place = standing_address(RUN, "pay")
    standing = ApprovalStanding(at_ms=asking.now_ms, name="pay", person="mara")
    asking.write(place.thread, "operators", standing)
    by_rule = ApprovalRuled(
        at_ms=asking.now_ms, call_id="a", name="pay", arguments={}, digest="ab" * 32, rule="cents is at most 5"
    )
    asking.write("0-1", "clerk", by_rule)
    asking.write("0-1", "clerk", msgspec.structs.replace(by_rule, rule="", standing=place.subject))
    asking.write(place.thread, "clerk", msgspec.structs.replace(standing, person="nobody"))
    assert asking.told == [
        ("0", "allowed", "mara allows every later pay of the run"),
        ("0-1", "allowed", "pay needs no approval: cents is at most 5"),
        ("0-1", "allowed", "pay needs no approval: a person has allowed it for the run"),
    ]


def test_a_run_that_has_spent_what_it_may_is_shown_with_what_lets_it_go_on() -> None:
    entry = BudgetRequested(at_ms=1, code="token_limit", limits=Budget(tokens=5), spent=Spent(tokens=5))
    waiting = budget_of(EntryAddress("operators", RUN, "0", "lead", 9), entry)
    assert (waiting.kind, waiting.text) == ("budget", "the tokens that may be used are used: 5 tokens")
    words = printed(shown(waiting, is_open=True))
    assert f"shanty runs budget {RUN} tokens=1M" in words and "expires" not in words


def test_a_question_to_the_lead_is_shown_and_is_not_for_people(asking: Script) -> None:
    question = asks(asking, "lead")
    assert asking.view.status == "running" and asking.view.threads["0-1"].doing == "waits for an answer of lead"
    assert asking.told == [("0-1", "asked", "asks lead: which?")]
    answer = QuestionAnswered(at_ms=asking.now_ms, by="lead-1", to_thread="0-1", question=question, answer="this one")
    asking.write("0", "lead", answer, "clerk")
    assert asking.told[-1] == ("0", "answered", "lead says: this one")


def cancelled(script: Script, question: str) -> None:
    script.write("0", "lead", CancelSent(at_ms=script.now_ms, to_thread="0-1", mode="abort"), "clerk")


def replied(script: Script, question: str) -> None:
    script.reply("0-1", "clerk", Outcome(status="ok"), to=("lead", "0"))


def expired(script: Script, question: str) -> None:
    script.write("0-1", "clerk", TimerFired(at_ms=script.now_ms + 60_000))
    script.write("0", "lead", TimerFired(at_ms=script.now_ms + 60_000))


@pytest.mark.parametrize("ends", [cancelled, replied, expired])
@pytest.mark.parametrize("passed_on", [False, True])
def test_what_nobody_waits_for_any_more_is_void(
    asking: Script, ends: Callable[[Script, str], None], passed_on: bool
) -> None:
    question = asks(asking, "lead") if passed_on else asks(asking, "operators")
    if passed_on:
        asks(asking, "operators", "whose is it?", question, by="lead")
    assert asking.view.status == "waiting"
    ends(asking, question)
    assert asking.view.waiting == {}


def test_a_question_on_behalf_of_nonsense_is_shown_all_the_same(asking: Script) -> None:
    asks(asking, "operators", on_behalf_of="shanty..x")
    replied(asking, "")
    assert asking.view.waiting == {}


def test_all_that_is_needed_to_decide_is_shown_and_nothing_of_it_moves_the_cursor(asking: Script) -> None:
    request = asks_approval(asking)
    (waiting,) = asking.view.waiting.values()
    hostile = msgspec.structs.replace(waiting, tool="pay\x1b[2J", why="since\nit is careful")
    assert printed(shown(hostile, is_open=True)).splitlines()[:10] == [
        f"approval {id_of(request)}",
        "who asks   clerk, thread 0-1 of run 0-r",
        "tool       pay\N{REPLACEMENT CHARACTER}[2J",
        "why        since it is careful",
        "arguments",
        "{",
        '  "cents": 5,',
        r'  "to": "x\n"',
        "}",
        f"SHA-256    {'ab' * 32}",
    ]
    plain = printed(shown(waiting, is_open=True))
    assert "--for-thread   and every later call of pay in thread 0-1, whatever its arguments" in plain
    assert "It is not open any more." in printed(shown(waiting, is_open=False))


def test_a_question_is_shown_with_what_may_be_answered(asking: Script) -> None:
    long = f"which {'of these ' * 40}month?"
    asks(asking, "operators", long)
    (waiting,) = asking.view.waiting.values()
    words = printed(shown(msgspec.structs.replace(waiting, options=("May", "June")), is_open=True))
    assert (
        f"{long}\n  - May\n  - June\n" in words
        and len(waiting.text) == 200
        and f"shanty inbox answer {waiting.id}" in words
    )


@pytest.mark.parametrize("text", ["5", "[1]", "{", '{"a":'])
def test_arguments_of_a_persons_own_are_a_json_object(text: str) -> None:
    with pytest.raises(UsageError, match="must be a JSON object"):
        arguments_from(text)


def printed(what: RenderableType) -> str:
    out = io.StringIO()
    Output("text", stdout=out).show(what)
    return out.getvalue()


def test_the_id_follows_from_the_subject_alone() -> None:
    address = EntryAddress("operators", RUN, "0-1", "clerk", 4)
    other = msgspec.structs.replace(address, n=5)
    assert id_of(address.subject) == id_of(address.subject) != id_of(other.subject)
