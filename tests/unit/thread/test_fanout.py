"""Fan-outs: which items get a thread, when, and what becomes of those that fail, stay away or are stopped."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shanty_protocol import (
    CancelSent,
    DelegationSent,
    FanOutStarted,
    FileRef,
    Outcome,
    QuestionAnswered,
    QuestionAsked,
    ThreadReplied,
    ThreadTakenOver,
    ToolReturned,
    codec,
)
from shanty_protocol.ids import LOG
from shanty_runtime.models.base import unmarked
from shanty_runtime.thread import fanout
from shanty_runtime.thread.decide import (
    AskModel,
    Draft,
    FinishFanOut,
    FireTimer,
    Park,
    ReadItems,
    StartFanOut,
    Write,
)
from shanty_runtime.thread.fold import apply
from shanty_runtime.thread.state import NOTHING_NEW
from shanty_runtime.thread.verbs import DelegateEach
from support.player import LEAD, Player, Use

FILE = FileRef(path="list.jsonl", version=1, digest="d" * 64, size_bytes=10)
OUTPUT = FileRef(path="out.jsonl", version=1, digest="e" * 64, size_bytes=10)


def fan_out(lead: Player, use: Use, **arguments: Any) -> None:
    """The model asks for a fan-out, and it is started."""
    given = {"specialist": "alpha", "objective": "read {item}", "output": "out.jsonl", **arguments}
    lead.model(use("each", "delegate_each", **given))
    if "each" in refused(lead):
        return
    step = lead.go_on()
    assert isinstance(step, StartFanOut)
    start(lead, [fanout.Item(value) for value in given.get("items", [])])


def start(lead: Player, items: list[fanout.Item], source: FileRef | None = None) -> None:
    order = lead.state.calls["each"].arguments
    entry = FanOutStarted(
        at_ms=lead.now_ms,
        by="worker-1",
        fence=7,
        call_id="each",
        specialist=order["specialist"],
        items=len(items),
        at_most=order.get("at_most", 16),
        retries=order.get("retries", 1),
        source=source,
        refused=fanout.refused_items(lead.profile, as_order(order), items),
    )
    lead.write(Draft(LOG, entry))


def as_order(arguments: dict[str, Any]) -> DelegateEach:
    return msgspec.convert(arguments, DelegateEach)


def refused(lead: Player) -> dict[str, str]:
    found: dict[str, str] = lead.journal[-1][1].refused  # type: ignore[union-attr]  # it is the model's reply
    return found


def delegations(lead: Player) -> list[tuple[str, int | None, int]]:
    """Thread, item and attempt of every delegation so far."""
    return [
        (entry.to_thread, entry.item, entry.attempt) for _, entry in lead.journal if isinstance(entry, DelegationSent)
    ]


def answer(lead: Player, thread: str, status: str = "ok", summary: str = "read") -> None:
    place = next(
        address.subject
        for address, entry in lead.journal
        if isinstance(entry, DelegationSent) and entry.to_thread == thread
    )
    outcome = Outcome(status=status, summary=summary)  # type: ignore[arg-type]  # one of the statuses
    agent = place.split(".")[2]
    lead.receive(
        agent,
        thread,
        lambda after: ThreadReplied(at_ms=1, to_thread="0", after=after, outcome=outcome, answers=place),
    )


def told(lead: Player) -> Any:
    """What the model is told of the call."""
    content: str = lead.state.calls["each"].content
    return msgspec.json.decode(content)


def finish(lead: Player) -> list[dict[str, Any]]:
    """The file is written; its lines."""
    assert lead.go_on() == FinishFanOut("each")
    fan = lead.state.fan_outs["each"]
    assert fan.order.items is not None
    lines = [msgspec.json.decode(line) for line in fanout.lines(fan, fan.order.items)]
    content = fanout.summary(fan, OUTPUT)
    returned = ToolReturned(at_ms=lead.now_ms, call_id="each", name="delegate_each", content=content, files=(OUTPUT,))
    lead.write(Draft(LOG, returned))
    return lines


def test_each_item_gets_a_thread_and_no_more_are_at_work_than_asked_for(lead: Player, use: Use) -> None:
    fan_out(lead, use, items=["a", "b", "c", "d"], at_most=2)
    assert isinstance(lead.go_on(), Park)
    assert delegations(lead) == [("0-1", 0, 1), ("0-2", 1, 1)]
    answer(lead, "0-2")
    assert isinstance(lead.go_on(), Park)
    assert delegations(lead)[2:] == [("0-3", 2, 1)]
    answer(lead, "0-1")
    answer(lead, "0-3")
    lead.go_on()
    answer(lead, "0-4")
    lines = finish(lead)
    assert [(line["index"], line["item"], line["thread"]) for line in lines] == [
        (0, "a", "0-1"),
        (1, "b", "0-2"),
        (2, "c", "0-3"),
        (3, "d", "0-4"),
    ]
    assert told(lead) == {
        "items": 4,
        "replies": {"ok": 4},
        "threads": 4,
        "output": {"path": "out.jsonl", "version": 1, "size_bytes": 10},
    }
    assert isinstance(lead.step(), AskModel)


def test_a_brief_is_the_template_with_the_item_in_it(lead: Player, use: Use) -> None:
    fan_out(lead, use, items=["a", {"b": 1}], guidance="quickly", label="page")
    briefs = [draft.entry.brief for draft in lead.drafts() if isinstance(draft.entry, DelegationSent)]
    assert [brief.objective for brief in briefs] == ["read a", 'read {"b":1}']
    assert [(brief.guidance, brief.label, brief.input) for brief in briefs] == [
        ("quickly", "page 1", None),
        ("quickly", "page 2", None),
    ]
    assert all(brief.deadline_s == lead.profile.delegation_deadline_s for brief in briefs)


@pytest.mark.parametrize(
    ("arguments", "items", "inputs"),
    [
        ({}, [{"n": 1}, {"n": 2}], [{"n": 1}, {"n": 2}]),
        ({"input_field": "n"}, [1, 2], [{"n": 1}, {"n": 2}]),
        ({"input_field": "n", "input": {"m": 0}}, [1], [{"m": 0, "n": 1}]),
    ],
)
def test_a_typed_specialist_gets_the_item_as_its_input_or_as_a_field_of_it(
    lead: Player, use: Use, arguments: Any, items: list[Any], inputs: list[Any]
) -> None:
    fan_out(lead, use, specialist="beta", objective="count", items=items, **arguments)
    drafts = [draft.entry for draft in lead.drafts()]
    assert [entry.brief.input for entry in drafts if isinstance(entry, DelegationSent)] == inputs


def test_an_item_that_does_not_fit_the_input_is_a_line_that_failed_and_the_others_are_done(
    lead: Player, use: Use
) -> None:
    fan_out(lead, use, specialist="beta", objective="count", items=[{"n": 1}, {"n": "x"}, 3])
    lead.go_on()
    assert delegations(lead) == [("0-1", 0, 1)]
    answer(lead, "0-1")
    lines = finish(lead)
    assert [(line["status"], line["attempts"], line["thread"]) for line in lines] == [
        ("ok", 1, "0-1"),
        ("failed", 0, ""),
        ("failed", 0, ""),
    ]
    assert lines[1]["code"] == "invalid_input" and "input for beta" in lines[1]["summary"]
    assert "not an object" in lines[2]["summary"]
    assert [each["index"] for each in told(lead)["first_that_failed"]] == [1, 2]


def test_an_item_that_failed_gets_another_thread_as_often_as_asked_for(lead: Player, use: Use) -> None:
    fan_out(lead, use, items=["a", "b"], retries=1)
    lead.go_on()
    answer(lead, "0-1", "failed")
    answer(lead, "0-2", "refused")
    lead.go_on()
    assert delegations(lead)[2:] == [("0-3", 0, 2)]
    answer(lead, "0-3", "failed", "again")
    lines = finish(lead)
    assert [(line["status"], line["thread"], line["attempts"]) for line in lines] == [
        ("failed", "0-3", 2),
        ("refused", "0-2", 1),
    ]
    assert told(lead)["threads"] == 3


def test_an_item_whose_time_is_over_is_tried_again_and_its_first_thread_is_stopped(lead: Player, use: Use) -> None:
    fan_out(lead, use, items=["a"], deadline_s=5.0, retries=1)
    lead.go_on()
    lead.now_ms += 5_000
    assert lead.step() == FireTimer(("0-1",))
    lead.timer_fired("0-1")
    assert isinstance(lead.go_on(), Park)
    assert [entry.mode for _, entry in lead.journal if isinstance(entry, CancelSent)] == ["abort"]
    assert delegations(lead) == [("0-1", 0, 1), ("0-2", 0, 2)]
    answer(lead, "0-1", "ok", "too late")
    assert isinstance(lead.go_on(), Park), "the second thread is at work"
    answer(lead, "0-2", "ok", "in time")
    assert [(line["thread"], line["summary"]) for line in finish(lead)] == [("0-2", "in time")]


def test_an_item_whose_time_is_over_for_good_is_a_line_that_says_so(lead: Player, use: Use) -> None:
    fan_out(lead, use, items=["a", "b"], deadline_s=5.0, retries=0)
    lead.go_on()
    lead.now_ms += 5_000
    lead.timer_fired("0-2")
    assert [line["status"] for line in finish(lead)] == ["timed_out", "unreachable"]


def test_the_next_items_are_due_with_the_same_bytes_for_whoever_goes_on(lead: Player, use: Use) -> None:
    fan_out(lead, use, items=[f"item {n}" for n in range(6)], at_most=3)
    whole = [codec.encode(draft.entry) for draft in lead.drafts()]
    assert len(whole) == 3
    lead.write(*lead.drafts()[:1])
    lead.now_ms = 99_999
    assert [codec.encode(draft.entry) for draft in lead.drafts(abandoned=True)] == whole[1:]


def test_items_of_a_file_are_read_before_their_delegations_are_written(lead: Player, use: Use) -> None:
    lead.model(use("each", "delegate_each", specialist="alpha", objective="{item}", output="o", file="list.jsonl"))
    assert isinstance(lead.go_on(), StartFanOut)
    start(lead, [fanout.Item("a"), fanout.Item("b")], FILE)
    assert lead.step() == ReadItems("each")
    state = lead.state
    state.items["each"] = ("a", "b")
    step = lead.step(state=state)
    assert isinstance(step, Write)
    assert [draft.entry.brief.objective for draft in step.drafts if isinstance(draft.entry, DelegationSent)] == [
        "a",
        "b",
    ]


def test_a_fan_out_and_other_delegations_share_what_may_be_at_work(use: Use) -> None:
    lead = Player(msgspec.structs.replace(LEAD, max_active_threads=3), "0")
    lead.opened_by("cli", "request-1")
    lead.go_on()
    lead.model(
        use("one", "delegate", specialist="alpha", objective="alone"),
        use("each", "delegate_each", specialist="alpha", objective="{item}", output="o", items=["a", "b", "c"]),
    )
    assert isinstance(lead.go_on(), StartFanOut)
    start(lead, [fanout.Item(value) for value in "abc"])
    assert isinstance(lead.go_on(), Park)
    assert [item for _, item, _ in delegations(lead)] == [None, 0, 1]
    answer(lead, "0-1")
    assert isinstance(lead.go_on(), Park)
    assert [item for _, item, _ in delegations(lead)] == [None, 0, 1, 2]


def test_nothing_is_tried_again_once_the_run_may_open_no_more_threads(use: Use) -> None:
    lead = Player(msgspec.structs.replace(LEAD, max_threads=2), "0")
    lead.opened_by("cli", "request-1")
    lead.go_on()
    fan_out(lead, use, items=["a", "b"], retries=5)
    lead.go_on()
    answer(lead, "0-1", "failed")
    answer(lead, "0-2", "failed")
    assert [line["attempts"] for line in finish(lead)] == [1, 1]


def test_a_question_of_a_thread_with_an_item_is_answered_at_once_for_its_lead_does_not_read_it(
    lead: Player, use: Use
) -> None:
    fan_out(lead, use, items=["a"])
    lead.go_on()
    question = lead.receive(
        "alpha",
        "0-1",
        lambda after: QuestionAsked(at_ms=1, to_thread="0", after=after, question="which one?", expires_at_ms=99_999),
    )
    assert isinstance(lead.go_on(), Park)
    answered = lead.journal[-1][1]
    assert isinstance(answered, QuestionAnswered) and (answered.to_thread, answered.question) == ("0-1", question)
    assert answered.answer == fanout.NOT_READ
    assert not lead.state.questions


def test_a_lead_asked_to_wrap_up_begins_no_further_item_and_hands_in_what_there_is(lead: Player, use: Use) -> None:
    fan_out(lead, use, items=["a", "b", "c"], at_most=2)
    lead.go_on()
    answer(lead, "0-1")
    lead.go_on()
    lead.cancel("cli", "request-1", "wrap_up")
    assert isinstance(lead.go_on(), Park)
    assert [(entry.to_thread, entry.mode) for _, entry in lead.journal if isinstance(entry, CancelSent)] == [
        ("0-2", "wrap_up"),
        ("0-3", "wrap_up"),
    ]
    answer(lead, "0-2", "cancelled")
    answer(lead, "0-3", "failed")
    assert [line["status"] for line in finish(lead)] == ["ok", "cancelled", "failed"]
    assert len(delegations(lead)) == 3, "what failed is not tried again"
    assert isinstance(lead.step(), AskModel)


def test_items_that_were_not_begun_when_the_lead_was_stopped_say_so(lead: Player, use: Use) -> None:
    fan_out(lead, use, items=["a", "b"], at_most=1)
    lead.go_on()
    lead.cancel("cli", "request-1", "wrap_up")
    lead.go_on()
    answer(lead, "0-1", "cancelled")
    second = finish(lead)[1]
    assert (second["status"], second["summary"], second["attempts"]) == ("cancelled", "not begun: it is late", 0)


def test_a_lead_that_is_aborted_writes_the_file_and_replies_with_it(lead: Player, use: Use) -> None:
    fan_out(lead, use, items=["a", "b", "c"], at_most=2)
    lead.go_on()
    answer(lead, "0-1")
    lead.go_on()
    lead.cancel("cli", "request-1", "abort")
    assert [line["status"] for line in finish(lead)] == ["ok", "cancelled", "cancelled"]
    assert isinstance(lead.go_on(), Park)
    assert (lead.outcome.status, lead.outcome.code) == ("cancelled", "aborted")
    assert lead.outcome.files == (OUTPUT,)
    assert sum(isinstance(entry, CancelSent) for _, entry in lead.journal) == 2


def test_a_fan_out_that_had_not_begun_when_the_lead_was_stopped_begins_nothing(lead: Player, use: Use) -> None:
    lead.model(use("each", "delegate_each", specialist="alpha", objective="{item}", output="o", items=["a"]))
    lead.cancel("cli", "request-1", "wrap_up")
    assert isinstance(lead.go_on(), AskModel)
    assert lead.state.calls["each"].content == NOTHING_NEW
    assert not delegations(lead)


def test_a_lead_that_is_given_up_does_not_write_the_file_first(lead: Player, use: Use) -> None:
    fan_out(lead, use, items=["a"])
    lead.go_on()
    lead.write(*(Draft(LOG, ThreadTakenOver(at_ms=lead.now_ms)) for _ in range(3)))
    answer(lead, "0-1")
    assert isinstance(lead.go_on(), Park)
    assert (lead.outcome.status, lead.outcome.code) == ("failed", "crash_loop")


def test_the_replies_of_a_fan_out_are_not_shown_to_the_model_later_either(lead: Player, use: Use) -> None:
    fan_out(lead, use, items=["a", "b"])
    lead.go_on()
    for thread in ("0-1", "0-2"):
        answer(lead, thread, summary="a secret of its own")
    finish(lead)
    lead.model(use("w", "wait_for_replies"))
    assert isinstance(lead.go_on(), AskModel)
    (block,) = lead.state.dialogue.next_messages()[-1].content
    assert msgspec.json.decode(unmarked(block["content"]))["replies"] == []
    assert "0-1" not in str(lead.state.dialogue.next_messages())


def test_a_thread_that_had_an_item_can_be_asked_further_like_any_other(lead: Player, use: Use) -> None:
    fan_out(lead, use, items=["a"])
    lead.go_on()
    answer(lead, "0-1", summary="one item")
    finish(lead)
    lead.model(
        use("more", "send_to_specialist", thread="0-1", message="and why?"),
        use("w", "wait_for_replies", threads=["0-1"]),
    )
    assert isinstance(lead.go_on(), Park)
    lead.replied("alpha", "0-1", answers=lead.state.children["0-1"].last_sent, summary="because")
    assert isinstance(lead.go_on(), AskModel)
    waited = msgspec.json.decode(lead.state.calls["w"].content)
    assert [reply["summary"] for reply in waited["replies"]] == ["because"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"specialist": "gamma", "items": ["a"]}, "there is no specialist 'gamma'"),
        ({}, "give either `items` or `file`"),
        ({"items": ["a"], "file": "x"}, "give either `items` or `file`"),
        ({"items": []}, "0 items; from 1 to 1000"),
        ({"items": ["a"] * 1_001}, "1001 items; from 1 to 1000"),
        ({"items": ["a"], "objective": " "}, "`objective` is empty"),
        ({"items": ["a"], "objective": "read"}, "must say {item}"),
        ({"items": ["a"], "output": ""}, "`output` is empty"),
        ({"items": ["a"], "output": "../up"}, "leads upwards"),
        ({"file": "/etc/passwd"}, "is absolute"),
        ({"items": ["a"], "at_most": 65}, "at_most must be from 1 to 64"),
        ({"items": ["a"], "at_most": 0}, "at_most must be from 1 to 64"),
        ({"items": ["a"], "retries": -1}, "retries must be from 0 to 10"),
        ({"items": ["a"], "deadline_s": 0}, "deadline_s must be more than 0"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_with_a_sentence(
    lead: Player, use: Use, arguments: dict[str, Any], sentence: str
) -> None:
    fan_out(lead, use, **arguments)
    assert sentence in refused(lead)["each"]


def test_more_items_than_the_run_may_open_threads_are_refused(use: Use) -> None:
    lead = Player(msgspec.structs.replace(LEAD, max_threads=3), "0")
    lead.opened_by("cli", "request-1")
    lead.go_on()
    lead.model(
        use("one", "delegate", specialist="alpha", objective="alone"),
        use("each", "delegate_each", specialist="alpha", objective="{item}", output="o", items=["a", "b", "c"]),
        use("few", "delegate_each", specialist="alpha", objective="{item}", output="o", items=["a", "b"]),
        use("two", "delegate", specialist="alpha", objective="alone"),
    )
    said = refused(lead)
    assert sorted(said) == ["each", "two"]
    assert "3 items, and this run may open 2 more threads of its 3" in said["each"]


def test_work_is_not_handed_in_beside_a_fan_out(lead: Player, use: Use) -> None:
    lead.model(
        use("each", "delegate_each", specialist="alpha", objective="{item}", output="o", items=["a"]),
        use("s", "submit_result", summary="done"),
    )
    assert "wait for the replies first" in refused(lead)["s"]


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b'["a", {"b": 1}, 3]', ["a", {"b": 1}, 3]),
        (b' [\n "a",\n "b"\n]\n', ["a", "b"]),
        (b'"a"\n\n{"b": 1}\r\n3\n', ["a", {"b": 1}, 3]),
        (b"[1]\n[2]\n", [[1], [2]]),
        (b"", []),
    ],
)
def test_a_list_is_read_as_json_or_line_by_line(content: bytes, values: list[Any]) -> None:
    items = fanout.read_items(content)
    assert [item.value for item in items] == values and not any(item.problem for item in items)


def test_a_line_that_is_not_json_is_an_item_nobody_can_use() -> None:
    items = fanout.read_items(b'"a"\nb\n"c"\n')
    assert [bool(item.problem) for item in items] == [False, True, False]
    assert items[1].value == "b" and items[1].problem.startswith("line 2 is not JSON")


@pytest.mark.parametrize(
    ("content", "reason"), [(b"[1, 2", "truncated"), (b"some words\nand more\n", "neither a JSON list nor a line")]
)
def test_a_file_that_is_no_list_at_all_is_not_read(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        fanout.read_items(content)


def test_an_item_larger_than_a_brief_may_be_is_refused() -> None:
    order = as_order({"specialist": "alpha", "objective": "{item}", "output": "o", "file": "f"})
    large = fanout.Item("x" * fanout.MAX_BRIEF_BYTES)
    said = fanout.refused_items(LEAD, order, [fanout.Item("small"), large])
    assert list(said) == ["1"] and "give the path of a file instead" in said["1"]


def test_a_thousand_items_are_taken_in_one_by_one(lead: Player, use: Use) -> None:
    """Played on one state that grows: what a worker does that holds the thread all the time."""
    fan_out(lead, use, items=[f"item {n}" for n in range(1_000)], at_most=32)
    state, applied = lead.state, len(lead.journal)
    while True:
        step = lead.step(state=state)
        if isinstance(step, Write):
            lead.write(*step.drafts)
            for address, entry in lead.journal[applied:]:
                apply(state, address, entry, {subject: lead.mail.pop(subject).entry for subject in entry.consumed})
            applied = len(lead.journal)
        elif isinstance(step, Park):
            thread = next(iter(state.fan_outs["each"].at_work))
            lead.replied("alpha", thread, answers=state.children[thread].last_sent)
        else:
            break
    assert step == FinishFanOut("each")
    fan = state.fan_outs["each"]
    assert [answered.thread for _, answered in sorted(fan.answers.items())] == [f"0-{n}" for n in range(1, 1_001)]
    assert len(fanout.summary(fan, OUTPUT)) < 500
