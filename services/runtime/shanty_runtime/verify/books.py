"""The book of one thread: what each entry of its journal says, against what those before it said.

It repeats of the engine's fold what has no choice in it: who was asked what, which calls are open, what was spent.
So it needs to know neither the team nor its tools.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

import msgspec

from shanty_protocol import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalRuled,
    Budget,
    BudgetExhausted,
    BudgetGranted,
    BudgetRequested,
    CancelSent,
    DelegationSent,
    Entry,
    EntryAddress,
    FanOutStarted,
    FileRef,
    MessageSent,
    ModelReplied,
    Spent,
    ThreadCompacted,
    ThreadOpened,
    ThreadReplied,
    TimerFired,
    ToolCalled,
    ToolReturned,
    Usage,
)
from shanty_protocol.ids import LOG, OPERATORS, is_agent_thread
from shanty_runtime.agent.budget import COUNTED, told
from shanty_runtime.thread.decide import IN_ORDER
from shanty_runtime.thread.escrow import Escrow, granted_of
from shanty_runtime.thread.state import added
from shanty_runtime.verify.calls import Calls
from shanty_runtime.verify.findings import Place, Report, Rule

HARD_LIMITS = ("model_calls", "tool_calls", "threads")
"""What is known before it is spent. Tokens and money are known after the call that has spent them."""

Peer = tuple[str, str]
"""Somebody's agent and thread."""


class MailBook(msgspec.Struct):
    """A mail, and who has taken it in."""

    at: Place
    to: Peer
    sender: Peer
    entry: Entry | None
    """Until it is taken in."""
    taken_by: str = ""


class ChildBook(msgspec.Struct):
    """A thread that was opened."""

    agent: str
    last_sent: str
    usage: Usage = Usage()
    cost_microusd: int | None = 0


class ThreadBook:
    """Everything one agent has written in one thread."""

    def __init__(
        self, agent: str, thread: str, mails: Mapping[str, MailBook], standing: Container[str], report: Report
    ) -> None:
        """`mails` and `standing` are what the whole run has stored so far: mail, and what people allow in advance."""
        self.agent, self.thread = agent, thread
        self.children: dict[str, ChildBook] = {}
        self.files: list[tuple[Place, FileRef]] = []
        self.newest, self.answered = "", ""
        """Subjects of the newest mail that wants a reply, and of the newest that has one."""
        self._mails, self._report = mails, report
        self._opener: Peer | None = None
        self._asked: dict[str, Peer] = {}
        """What wants a reply, in the order it was taken in, and who has asked it."""
        self._heard_from: dict[Peer, str] = {}
        self._fences: list[int] = []
        self._usage = Usage()
        self._cost_microusd: int | None = 0
        self._escrow = Escrow()
        self._at: Place = ("", 0)
        self.calls = Calls(standing, self._wrong, lambda: self._escrow.spend(tool_calls=1))

    @property
    def owes_reply(self) -> bool:
        return self.newest != self.answered

    def take(self, address: EntryAddress, at: Place, entry: Entry) -> None:
        self._at = at
        if address.to in (LOG, OPERATORS):  # what is due is written under the lease of whoever made it due
            self._check_fence(entry)
        for subject in entry.consumed:
            self._take_in(subject, entry)
        match entry:
            case ThreadOpened(budget=limits):
                if limits is not None:
                    self._escrow.limits = limits
                if self._opener is None:
                    self._wrong("delegation", "it opens a thread and takes in no delegation")
            case ModelReplied():
                self._pay(entry.usage, entry.cost_microusd)
                self.calls.take_model_reply(entry, owes_reply=self.owes_reply)
            case ThreadCompacted() if entry.model:
                self._pay(entry.usage, entry.cost_microusd)
            case ToolCalled():
                self.calls.take_intent(entry)
            case ToolReturned():
                self.calls.take_result(at, entry)
                self.files += [(at, file) for file in entry.files]
            case FanOutStarted():
                self.calls.check_asked_for(entry.call_id, "delegate_each")
                if entry.source is not None:
                    self.files.append((at, entry.source))
            case DelegationSent():
                self._take_delegation(address, entry)
            case MessageSent(purpose="follow_up"):
                self._take_follow_up(address, entry)
            case CancelSent():
                self._is_below(address, entry.to_thread)
            case ApprovalRequested():
                self.calls.take_request(address, entry)
            case ApprovalRuled():
                self.calls.take_ruling(entry)
            case ThreadReplied():
                self._take_reply(address, entry)
            case TimerFired():
                for thread in entry.unstarted:
                    if thread not in self.children:
                        self._wrong("timer", f"it says that {thread} is late, which it has not opened")
            case BudgetExhausted() | BudgetRequested():
                self._check_spent(entry.spent)
                # Time that was added counts from a moment that depends on when people were waited for.
                if _without_time(entry.limits) != _without_time(self._escrow.limits):
                    self._wrong("budget", f"limits of {told(entry.limits)}", told(self._escrow.limits))
            case _:
                pass

    # What comes in

    def _take_in(self, subject: str, by: Entry) -> None:
        mail = self._mails.get(subject)
        if mail is None:
            self._wrong("mail", f"it takes in {subject}, which was not stored before it")
            return
        if mail.to != (self.agent, self.thread):
            self._wrong("mail", f"it takes in {subject}, which is for {mail.to[0]}, thread {mail.to[1]}")
            return
        if mail.taken_by:
            self._wrong("mail", f"it takes in {subject} once more", f"once, by {mail.taken_by}")
            return
        mail.taken_by = self._at[0]
        entry, mail.entry = mail.entry, None
        if isinstance(entry, IN_ORDER):
            before = self._heard_from.get(mail.sender, "")
            if entry.after != before:
                self._wrong("order", f"it takes in {subject}, which comes after {entry.after or 'nothing'}", before)
            self._heard_from[mail.sender] = subject
        match entry:
            case DelegationSent():
                if self._opener is not None:
                    self._wrong("delegation", f"{subject} opens a thread that {self._opener[0]} had opened")
                self._opener = mail.sender
                self._escrow.open(entry.brief.budget, entry.at_ms)
                self._ask(subject, mail.sender)
            case MessageSent(purpose="follow_up"):
                if mail.sender == self._opener or not self.owes_reply:
                    self._ask(subject, mail.sender)
            case BudgetGranted():
                if mail.sender[0] != OPERATORS:
                    self._wrong("budget", f"{mail.sender[0]} has granted more in {subject}", "people alone")
                self._escrow.raise_limits(entry.budget, by.at_ms)
            case ThreadReplied():
                self._settle(subject, mail.sender, entry)
            case ApprovalDecided():
                self.calls.take_decision(subject, mail.sender, entry)
            case _:
                pass

    def _ask(self, subject: str, asker: Peer) -> None:
        self._asked[subject] = asker
        self.newest = subject

    def _settle(self, subject: str, sender: Peer, reply: ThreadReplied) -> None:
        child = self.children.get(sender[1])
        if child is None or child.agent != sender[0]:
            self._wrong("reply", f"{subject} is the reply of a thread that this one has not opened")
            return
        child.usage, child.cost_microusd = reply.usage, reply.cost_microusd
        goes_on = reply.answers != child.last_sent
        self._escrow.settle(sender[1], reply.spent, reply.usage, reply.cost_microusd, goes_on=goes_on)

    # Delegations and what they may spend

    def _take_delegation(self, address: EntryAddress, entry: DelegationSent) -> None:
        if not is_agent_thread(self.thread):
            return  # whoever starts a run has no account
        expected = f"{self.thread}-{len(self.children) + 1}"
        if entry.to_thread != expected:
            self._wrong("delegation", f"it opens thread {entry.to_thread}", expected)
        self.children[entry.to_thread] = ChildBook(address.to, address.subject)
        if (call := self.calls.calls.get(entry.call_id)) is not None:
            self.calls.check_approved(entry.call_id, call)
        grant = {} if entry.brief.budget is None else granted_of(entry.brief.budget)
        self._check_grant({**grant, "threads": 1 + grant.get("threads", 0)})
        self._escrow.grant(entry.to_thread, entry.brief.budget)

    def _take_follow_up(self, address: EntryAddress, entry: MessageSent) -> None:
        if is_agent_thread(self.thread) and self._is_below(address, entry.to_thread):
            child = self.children[entry.to_thread]
            if not self._escrow.accounts[entry.to_thread].open:
                self._check_grant(self._escrow.rest_of(entry.to_thread))
            self._escrow.reopen(entry.to_thread)
            child.last_sent = address.subject

    def _is_below(self, address: EntryAddress, thread: str) -> bool:
        """Whether it is a thread that this one has opened. People may write to any."""
        if not is_agent_thread(self.thread):
            return False
        child = self.children.get(thread)
        if child is not None and child.agent == address.to:
            return True
        self._wrong("delegation", f"it writes to {address.to}, thread {thread}, which it has not opened")
        return False

    def _check_grant(self, grant: dict[str, int]) -> None:
        left = self._escrow.left
        for name, amount in grant.items():
            if amount > left.get(name, amount):
                self._wrong("budget", f"it grants {amount} of {name}", f"at most {left[name]}, which is left")

    def _pay(self, usage: Usage, cost_microusd: int | None) -> None:
        self._usage += usage
        self._cost_microusd = added([self._cost_microusd, cost_microusd])
        self._escrow.pay(usage, cost_microusd)

    def _check_spent(self, spent: Spent) -> None:
        if spent != self._escrow.spent:
            self._wrong("budget", f"it says that {told(spent)} are spent", told(self._escrow.spent))

    # Replies

    def _take_reply(self, address: EntryAddress, entry: ThreadReplied) -> None:
        self.files += [(self._at, file) for file in entry.outcome.files]
        order = list(self._asked)
        if entry.answers not in self._asked:
            self._wrong("reply", f"it answers {entry.answers or 'nothing'}, which it was not asked")
        elif self.answered and order.index(entry.answers) <= order.index(self.answered):
            self._wrong("reply", f"it answers {entry.answers}, which was answered before", "one reply to each")
        elif (asker := self._asked[entry.answers]) != (address.to, entry.to_thread):
            self._wrong("reply", f"it goes to {address.to}, thread {entry.to_thread}", " thread ".join(asker))
        else:
            self.answered = entry.answers
        self._check_sum(entry)

    def _check_sum(self, entry: ThreadReplied) -> None:
        """What a reply says of tokens, money and calls is its own and what its threads have said."""
        usage = sum((child.usage for child in self.children.values()), self._usage)
        if entry.usage != usage:
            self._wrong("budget", f"it says that {entry.usage} were used", f"{usage}")
        cost = added([self._cost_microusd, *(child.cost_microusd for child in self.children.values())])
        if entry.cost_microusd != cost:
            self._wrong("budget", f"it says that it cost {entry.cost_microusd}", f"{cost}")
        if entry.spent is None:
            return
        if any((getattr(entry.spent, name) or 0) < 0 for name in COUNTED):
            self._wrong("budget", f"it says that {told(entry.spent)} are spent", "nothing below zero")
            return
        self._check_spent(entry.spent)
        limits = granted_of(self._escrow.limits)
        for name in HARD_LIMITS:
            if getattr(entry.spent, name) > limits.get(name, getattr(entry.spent, name)):
                self._wrong("budget", f"it has spent {getattr(entry.spent, name)} of {name}", f"{limits[name]}")

    def _check_fence(self, entry: Entry) -> None:
        if not entry.fence or (self._fences and entry.fence == self._fences[-1]):
            return
        if entry.fence in self._fences:
            told_it = f"it is written under lease {entry.fence}, which had passed on to {self._fences[-1]}"
            self._wrong("fence", told_it, f"{self._fences[-1]} or a later one")
        elif self._fences and entry.fence < self._fences[-1]:
            told_it = f"lease {entry.fence} after {self._fences[-1]}: the leases were lost, or it had passed on"
            self._report.note(self._at, "fence", told_it)
        self._fences.append(entry.fence)

    def _wrong(self, rule: Rule, what: str, expected: str = "") -> None:
        self._report.wrong(self._at, rule, what, expected)


def _without_time(limits: Budget) -> Budget:
    return msgspec.structs.replace(limits, wall_s=None)
