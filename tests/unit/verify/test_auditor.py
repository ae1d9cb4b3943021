"""Whatever is changed in what a run has stored, the audit names the entry it was changed in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shanty_protocol import chain
from shanty_protocol.headers import CHAIN
from shanty_protocol.subjects import parse_entry
from shanty_runtime.archive import SUFFIX, EntryLine, FileLine, Line, read_archive
from shanty_runtime.bus.jetstream import RawMessage
from shanty_runtime.verify import Audit, Auditor

JOURNALS = Path(__file__).parents[2] / "journals" / "0.2.0"


def run_of(name: str) -> list[Line]:
    return list(read_archive(JOURNALS / f"{name}{SUFFIX}"))


FILES = {name: [line.message for line in run_of(name) if isinstance(line, FileLine)] for name in ("fan-out",)}
RUNS = {
    name: [line.message for line in run_of(name) if isinstance(line, EntryLine)]
    for name in ("approvals", "budget", "budget-raised", "fan-out", "nested", "stopped")
}
APPROVALS = RUNS["approvals"]


def audit(messages: list[RawMessage], name: str = "approvals") -> Audit:
    auditor = Auditor(f"0-{name}")
    for message in messages:
        auditor.take(message)
    for message in FILES.get(name, []):
        auditor.take_file(message)
    return auditor.end()


def changed(message: RawMessage, **fields: Any) -> RawMessage:
    return msgspec.structs.replace(message, **fields)


def other_byte(data: bytes, draw: st.DataObject) -> bytes:
    at = draw.draw(st.integers(0, len(data) - 1))
    return data[:at] + bytes([data[at] ^ (1 << draw.draw(st.integers(0, 7)))]) + data[at + 1 :]


def flipped(message: RawMessage, data: st.DataObject) -> RawMessage:
    """The message with one bit of its subject, its body, or the name or value of one of its headers changed."""
    part = data.draw(st.sampled_from(["subject", "data", "name", "value"]))
    if part == "data":
        return changed(message, data=other_byte(message.data, data))
    if part == "subject":
        return changed(message, subject=other_text(message.subject, data))
    headers = dict(message.headers)
    name = data.draw(st.sampled_from(sorted(headers)))
    value = headers.pop(name)
    renamed = other_text(name, data) if part == "name" else name
    return changed(message, headers={**headers, renamed: value if part == "name" else other_text(value, data)})


def other_text(text: str, data: st.DataObject) -> str:
    return other_byte(text.encode(), data).decode("utf-8", "replace")


@given(st.data())
def test_flipping_any_bit_of_any_stored_entry_has_it_named_first(data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(APPROVALS) - 1))
    message = flipped(APPROVALS[index], data)
    found = audit([*APPROVALS[:index], message, *APPROVALS[index + 1 :]])
    assert (found.findings[0].seq, found.findings[0].subject) == (message.seq, message.subject)


@given(st.data())
def test_flipping_any_bit_of_the_only_or_the_last_entry_of_a_journal_has_it_named(data: st.DataObject) -> None:
    last = {journal_of(each): each for each in APPROVALS}
    message = flipped(data.draw(st.sampled_from([*last.values()])), data)
    found = audit([message if each.seq == message.seq else each for each in APPROVALS])
    assert (found.findings[0].seq, found.findings[0].subject) == (message.seq, message.subject)


@pytest.mark.parametrize("index", [0, 1, -1])
def test_an_entry_without_a_chain_between_chained_ones_of_its_lease_is_named(index: int) -> None:
    """Its content may be as it was: but whoever has taken the header away may have taken that of a changed one."""
    written = [each for each in APPROVALS if journal_of(each) == ("0", "lead") and ".log." in each.subject]
    stripped = {name: value for name, value in written[index].headers.items() if name != CHAIN}
    bare = changed(written[index], headers=stripped)
    found = audit([bare if each.seq == bare.seq else each for each in APPROVALS])
    assert [(each.subject, each.rule) for each in found.findings] == [(bare.subject, "chain")]
    assert "others that were written under lease" in found.findings[0].what


def test_a_journal_that_two_releases_have_written_is_sound_under_leases_of_their_own() -> None:
    """The older one takes over, and chains nothing."""
    messages, older = list(APPROVALS), 10**6
    ours = [index for index, each in enumerate(messages) if journal_of(each) == ("0", "lead")]
    for index in ours[-2:]:
        message = messages[index]
        body = msgspec.json.encode({**msgspec.json.decode(message.data), "fence": older})
        headers = {name: value for name, value in message.headers.items() if name != CHAIN}
        messages[index] = changed(message, data=body, headers=headers)
    assert audit(messages).findings == ()


def journal_of(message: RawMessage) -> tuple[str, str]:
    address = parse_entry(message.subject)
    return address.thread, address.agent


@given(st.integers(0, len(APPROVALS) - 1))
def test_an_entry_that_is_taken_out_is_missed_unless_it_was_the_last_of_its_journal_that_anybody_read(
    index: int,
) -> None:
    gone = parse_entry(APPROVALS[index].subject)
    found = audit([*APPROVALS[:index], *APPROVALS[index + 1 :]])
    later = [parse_entry(each.subject) for each in APPROVALS[index + 1 :]]
    goes_on = any((each.thread, each.agent) == (gone.thread, gone.agent) for each in later)
    was_read = any(f'"{gone.subject}"'.encode() in each.data for each in APPROVALS[index + 1 :])
    assert bool(found.findings) == (goes_on or was_read)


def rechained(messages: list[RawMessage]) -> list[RawMessage]:
    """With a chain that holds: by somebody who has forged a whole journal, so that the other rules have to tell."""
    own: dict[tuple[str, str], str] = {}
    made = []
    for message in messages:
        address = parse_entry(message.subject)
        journal = (address.thread, address.agent)
        before = own.get(journal, chain.NOTHING_BEFORE)
        headers = {name: value for name, value in message.headers.items() if name != CHAIN}
        own[journal] = chain.digest_of_entry(before, message.subject, headers, message.data)
        link = chain.Link(before, own[journal], chain.seal_of(own[journal], headers))
        made.append(changed(message, headers={**headers, CHAIN: link.header}))
    return made


def forged(name: str, kind: str, change: Callable[[dict[str, Any]], object]) -> Audit:
    """An audit of a run in whose journals the last entry of a kind says something else."""
    messages = list(RUNS[name])
    index = max(index for index, each in enumerate(messages) if each.headers["Shanty-Kind"] == kind)
    body = msgspec.json.decode(messages[index].data)
    change(body)
    messages[index] = changed(messages[index], data=msgspec.json.encode(body))
    return audit(rechained(messages), name)


@pytest.mark.parametrize(
    ("run", "kind", "change", "rule", "said"),
    [
        ("approvals", "tool.called", lambda body: body["arguments"].update(cents=1), "approval", "have agreed to"),
        ("approvals", "tool.called", lambda body: body.update(call_id="c9"), "effect", "nobody has asked for"),
        ("approvals", "tool.returned", lambda body: body.update(call_id="c9"), "effect", "nobody has asked for"),
        ("approvals", "tool.returned", lambda body: body.update(name="ring"), "effect", "is a call of ring"),
        ("approvals", "approval.requested", lambda body: body["arguments"].update(cents=1), "approval", "its digest"),
        ("approvals", "approval.decided", lambda body: body.update(digest="0" * 64), "approval", "other arguments"),
        (
            "approvals",
            "thread.replied",
            lambda body: body.update(answers="shanty.0.a.0-r.0.b.1"),
            "reply",
            "not asked",
        ),
        ("approvals", "thread.replied", lambda body: body["usage"].update(input_tokens=10**6), "budget", "were used"),
        (
            "approvals",
            "reply.received",
            lambda body: body.update(consumed=["shanty.0.a.0-r.0.b.1"]),
            "mail",
            "stored",
        ),
        ("approvals", "delegation.sent", lambda body: body.update(to_thread="0-7"), "mail", "which is for"),
        ("budget", "thread.replied", lambda body: body["spent"].update(tokens=-1), "budget", "says that"),
        ("budget", "thread.replied", lambda body: body["spent"].update(tokens=1), "budget", "says that"),
        ("budget-raised", "budget.requested", lambda body: body["spent"].update(tokens=1), "budget", "says that"),
        ("stopped", "cancel.sent", lambda body: body.update(to_thread="0-9"), "delegation", "has not opened"),
        ("nested", "delegation.sent", lambda body: body.update(to_thread="0-1-9"), "delegation", "it opens thread"),
        ("fan-out", "delegation.sent", lambda body: body.update(at_ms="now"), "message", "cannot be read"),
        ("fan-out", "thread.opened", lambda body: body.pop("consumed"), "delegation", "takes in no delegation"),
    ],
)
def test_a_journal_whose_chain_was_made_anew_is_still_held_to_what_it_says(
    run: str, kind: str, change: Callable[[dict[str, Any]], object], rule: str, said: str
) -> None:
    found = forged(run, kind, change)
    assert any(each.rule == rule and said in each.what for each in found.findings), found.findings[:3]
