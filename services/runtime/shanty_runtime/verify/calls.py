"""The calls of one thread: who has asked for them, whether people agreed, what was announced, and what came back."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Protocol

import msgspec

from shanty_protocol import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalRuled,
    EntryAddress,
    ModelReplied,
    ToolCalled,
    ToolReturned,
)
from shanty_protocol.codec import digest_of
from shanty_protocol.ids import OPERATORS
from shanty_protocol.subjects import decision_address, parse_entry
from shanty_runtime.thread.verbs import VERBS
from shanty_runtime.verify.findings import Place, Rule

CALLS_ARE_MADE = frozenset({"tool_use", "end_turn", "stop_sequence"})
"""The reasons a model's reply stops for whose tool calls are made."""


class Wrong(Protocol):
    def __call__(self, rule: Rule, what: str, expected: str = "") -> None:
        """The entry that is looked at breaks a rule."""


class CallBook(msgspec.Struct):
    """A tool call."""

    name: str
    digest: str
    """Of the arguments it has to be made with."""
    intended: bool = False
    returned: bool = False
    request: str = ""
    """Subject of what people were asked about it."""
    decision: str = ""
    uncounted: bool = False
    """It counts among the calls that the thread may make as soon as it is begun."""


class Calls:
    def __init__(self, standing: Container[str], wrong: Wrong, spend: Callable[[], None]) -> None:
        """`standing`: what people allow in advance. `spend` is told of each call that counts."""
        self.calls: dict[str, CallBook] = {}
        self.announced: set[str] = set()
        """Tools whose calls are announced: those that have an effect."""
        self.unannounced: list[tuple[Place, str]] = []
        """Calls that gave something and were not announced, by their tools: harmless where those only read."""
        self._standing, self._wrong, self._spend = standing, wrong, spend
        self._has_model = False

    def take_model_reply(self, entry: ModelReplied, *, owes_reply: bool) -> None:
        self._has_model = True
        if not owes_reply or entry.stop_reason not in CALLS_ARE_MADE:
            return
        for block in entry.blocks:
            if block.get("type") != "tool_use":
                continue
            call_id, name = str(block.get("id")), str(block.get("name"))
            if call_id in self.calls:
                self._wrong("effect", f"its call {call_id} has the id of an earlier one", "an id for each call")
            arguments = block.get("input")
            call = CallBook(name, digest_of(arguments if isinstance(arguments, dict) else {}))
            self.calls[call_id] = call
            if call_id in entry.refused:
                call.returned = True
            elif name not in VERBS:
                self._spend()

    def take_intent(self, entry: ToolCalled) -> None:
        call = self._call(entry.call_id, entry.name, entry.arguments)
        if call is None:
            return
        self._count(call)
        self.announced.add(entry.name)
        if call.returned:
            self._wrong("effect", f"{entry.call_id} is announced after it returned", "the intent before the effect")
        elif call.intended:
            self._wrong("effect", f"{entry.call_id} is announced a second time", "one intent for each effect")
        call.intended = True
        self.check_approved(entry.call_id, call)
        if digest_of(entry.arguments) != call.digest:
            agreed = "what people have agreed to" if call.decision else "what the model has asked for"
            self._wrong("approval" if call.decision else "effect", f"{entry.call_id} is not called with {agreed}")

    def take_result(self, at: Place, entry: ToolReturned) -> None:
        call = self._call(entry.call_id, entry.name, None)
        if call is None:
            return
        if call.returned:
            self._wrong("effect", f"{entry.call_id} has returned before", "one outcome for each call")
        self._count(call)
        call.returned = True
        self.check_approved(entry.call_id, call)
        if entry.status == "unknown" and not call.intended:
            self._wrong("effect", f"the outcome of {entry.call_id} is unknown, and it was never announced")
        elif entry.status == "ok" and not call.intended:
            self.unannounced.append((at, entry.name))

    def _call(self, call_id: str, name: str, arguments: dict[str, object] | None) -> CallBook | None:
        """The call that is meant. A Python handler's calls are not asked for by a model reply."""
        call = self.calls.get(call_id)
        if call is None:
            if self._has_model:
                self._wrong("effect", f"nobody has asked for the call {call_id}", "a model's reply that asks for it")
                return None
            call = self.calls[call_id] = CallBook(name, digest_of(arguments or {}), uncounted=True)
        if call.name != name:
            self._wrong("effect", f"{call_id} is a call of {name}", f"of {call.name}")
        return call

    def check_asked_for(self, call_id: str, name: str) -> None:
        if call_id not in self.calls or self.calls[call_id].name != name:
            self._wrong("effect", f"nobody has asked for {name} with the id {call_id}")

    def take_request(self, address: EntryAddress, entry: ApprovalRequested) -> None:
        if entry.digest != digest_of(entry.arguments):
            self._wrong("approval", "its digest is not that of its arguments", digest_of(entry.arguments))
        call = self._call(entry.call_id, entry.name, entry.arguments)
        if call is None:
            return
        if call.intended or call.returned:
            self._wrong("approval", f"{entry.call_id} was made before people were asked", "asked before it is made")
        if entry.digest != call.digest:
            self._wrong("approval", "people are asked about other arguments than the call has", call.digest)
        call.request = address.subject

    def take_ruling(self, entry: ApprovalRuled) -> None:
        call = self._call(entry.call_id, entry.name, entry.arguments)
        if call is None:
            return
        if entry.digest != digest_of(entry.arguments) or entry.digest != call.digest:
            self._wrong("approval", "it rules on other arguments than the call has", call.digest)
        if entry.standing and entry.standing not in self._standing:
            self._wrong("approval", f"people have not said before it what it names: {entry.standing}")

    def take_decision(self, subject: str, sender: tuple[str, str], decision: ApprovalDecided) -> None:
        call = next((each for each in self.calls.values() if each.request == decision.request), None)
        if call is None or call.decision:
            self._wrong("approval", f"{subject} decides on what is not open: {decision.request}")
            return
        if sender[0] != OPERATORS or parse_entry(subject) != decision_address(parse_entry(decision.request)):
            self._wrong("approval", f"{subject} is not the place to decide on {decision.request}")
        if decision.digest != call.digest:
            self._wrong("approval", f"{subject} decides on other arguments than {decision.request} asks about")
        call.decision = decision.decision
        if decision.decision == "edit":
            call.digest = digest_of(decision.arguments or {})
            if call.digest != decision.arguments_digest:
                self._wrong("approval", f"{subject} has other arguments than it says", decision.arguments_digest)

    def check_approved(self, call_id: str, call: CallBook) -> None:
        if call.request and call.decision in ("", "deny"):
            told_it = "people had denied it" if call.decision else "nobody had decided on it"
            self._wrong("approval", f"{call_id} was made though {told_it}", f"a decision on {call.request}")

    def _count(self, call: CallBook) -> None:
        """A model's calls count when it asks for them, a handler's when they are begun."""
        if call.uncounted:
            call.uncounted = False
            self._spend()
