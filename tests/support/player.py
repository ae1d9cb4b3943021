"""A thread played by hand: each test is the worker, and decides what is stored, what is lost and what comes when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import msgspec

from shanty_protocol import (
    Brief,
    CancelSent,
    DelegationSent,
    Entry,
    EntryAddress,
    MessageSent,
    ModelReplied,
    Outcome,
    ThreadReplied,
    TimerFired,
    ToolCalled,
    ToolReturned,
)
from shanty_protocol.ids import LOG
from shanty_runtime.agent import Contract, Profile
from shanty_runtime.thread.approvals import entries_for
from shanty_runtime.thread.decide import AskPeople, Draft, Received, RunCalls, Stamp, Step, Write, decide
from shanty_runtime.thread.fold import fold
from shanty_runtime.thread.plan import held_back, refusals
from shanty_runtime.thread.state import State
from shanty_runtime.thread.verbs import LEAD_VERBS, SPECIALIST_VERBS, verb_cards
from shanty_runtime.tools.base import ToolContext, tool

RUN = "0-r"


class Note(msgspec.Struct, frozen=True, kw_only=True):
    text: str


@tool(effect="read")
async def look(args: Note, context: ToolContext) -> str:
    """Looks something up."""
    return args.text


@tool(effect="irreversible")
async def pay(args: Note, context: ToolContext) -> str:
    """Pays somebody."""
    return args.text


LEAD = Profile(
    agent="lead",
    role="lead",
    verbs=verb_cards(LEAD_VERBS),
    tools={"look": look, "pay": pay},
    contracts={
        "alpha": Contract(name="alpha", description="reads"),
        "beta": Contract(
            name="beta",
            description="counts",
            input_schema={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
        ),
    },
    max_turns=5,
    max_attempts=3,
)
SPECIALIST = Profile(
    agent="alpha", role="specialist", verbs=verb_cards(SPECIALIST_VERBS), tools={"look": look, "pay": pay}
)


class Use(Protocol):
    """Makes a tool_use block."""

    def __call__(self, identity: str, name: str, /, **arguments: Any) -> dict[str, Any]: ...


class Player:
    """The journal of one thread, and the mail that was sent to it."""

    def __init__(self, profile: Profile, thread: str) -> None:
        self.profile, self.thread = profile, thread
        self.journal: list[tuple[EntryAddress, Entry]] = []
        self.mail: dict[str, Received] = {}
        self.now_ms = 1_000
        self.standing: dict[str, str] = {}
        """Subjects of what people have allowed for the run, by name."""
        self.sent: dict[tuple[str, str], tuple[int, str]] = {}

    @property
    def state(self) -> State:
        """Always folded from the beginning: what a replica knows that has never seen this thread."""
        return self.folded(len(self.journal))

    def folded(self, places: int) -> State:
        mails = {subject: mail.entry for subject, mail in self.mail.items()}
        return fold(self.profile, RUN, self.thread, ((a, e, mails) for a, e in self.journal[:places]))

    def step(self, *, abandoned: bool = False, state: State | None = None) -> Step:
        stamp = Stamp(self.now_ms, "worker-1", 7)
        return decide(state or self.state, list(self.mail.values()), stamp, abandoned=abandoned)

    def drafts(self, *, abandoned: bool = False) -> tuple[Draft, ...]:
        """The entries that have to be written next."""
        step = self.step(abandoned=abandoned)
        assert isinstance(step, Write), step
        return step.drafts

    def open_calls(self) -> list[str]:
        """The ids of the calls that have to be made next."""
        step = self.step()
        assert isinstance(step, RunCalls), step
        return [call.id for call in step.calls]

    def reply(self, place: int = -1) -> ThreadReplied:
        _, entry = self.journal[place]
        assert isinstance(entry, ThreadReplied), entry
        return entry

    @property
    def outcome(self) -> Outcome:
        outcome = self.state.outcome
        assert outcome is not None
        return outcome

    def write(self, *drafts: Draft) -> None:
        for draft in drafts:
            address = EntryAddress(draft.to, RUN, self.thread, self.profile.agent, len(self.journal))
            self.journal.append((address, draft.entry))

    def go_on(self) -> Step:
        """Write whatever has to be written, and return the first step that needs somebody else."""
        while isinstance(step := self.step(), (Write, AskPeople)):
            self.write(*(step.drafts if isinstance(step, Write) else self.asked(step)))
        return step

    def asked(self, step: AskPeople) -> list[Draft]:
        """What is written about calls that people decide on, with what they have allowed for the run."""
        entries = entries_for(self.state, step.calls, self.standing, at_ms=self.now_ms, by="worker-1", fence=7)
        return [Draft(to, entry) for to, entry in entries]

    def model(self, *blocks: dict[str, Any], shown: int | None = None) -> None:
        """`shown`: the place up to which the journal had been shown, where something came in during the call."""
        refused = refusals(self.state, blocks)
        entry = ModelReplied(
            at_ms=self.now_ms,
            by="worker-1",
            fence=7,
            blocks=blocks,
            stop_reason="tool_use",
            model="test",
            refused=refused,
            to_approve=held_back(self.state, blocks, refused),
            shown=shown,
        )
        self.write(Draft(LOG, entry))

    def returned(self, call_id: str, name: str, content: str) -> None:
        self.write(Draft(LOG, ToolReturned(at_ms=self.now_ms, call_id=call_id, name=name, content=content)))

    def receive(self, agent: str, thread: str, make: Callable[[str], Entry], n: int | None = None) -> str:
        """Mail from somebody, who names the one it sent before. Returns its subject."""
        place, after = self.sent.get((agent, thread), (0, ""))
        place = place if n is None else n
        received = Received(EntryAddress(self.profile.agent, RUN, thread, agent, place), make(after))
        self.sent[agent, thread] = (place + 1, received.subject)
        self.mail[received.subject] = received
        return received.subject

    def opened_by(self, agent: str, thread: str, objective: str = "find out") -> str:
        brief = Brief(objective=objective)
        return self.receive(
            agent,
            thread,
            lambda after: DelegationSent(at_ms=1, to_thread=self.thread, after=after, brief=brief),
        )

    def replied(self, agent: str, thread: str, answers: str, summary: str = "done") -> str:
        outcome = Outcome(status="ok", summary=summary)
        return self.receive(
            agent,
            thread,
            lambda after: ThreadReplied(
                at_ms=1, to_thread=self.thread, after=after, outcome=outcome, answers=answers
            ),
        )

    def follow_up(self, agent: str, thread: str, text: str) -> str:
        return self.receive(
            agent,
            thread,
            lambda after: MessageSent(at_ms=1, to_thread=self.thread, after=after, purpose="follow_up", text=text),
        )

    def cancel(self, agent: str, thread: str, mode: Literal["wrap_up", "abort"], within_s: float = 60.0) -> str:
        return self.receive(
            agent,
            thread,
            lambda after: CancelSent(
                at_ms=1, to_thread=self.thread, after=after, mode=mode, reason="it is late", within_s=within_s
            ),
        )

    def timer_fired(self, *unstarted: str) -> None:
        self.write(Draft(LOG, TimerFired(at_ms=self.now_ms, unstarted=unstarted)))

    def intends(self, call_id: str, name: str, **arguments: Any) -> None:
        """The intent of a call that has an effect is journaled."""
        self.write(Draft(LOG, ToolCalled(at_ms=self.now_ms, call_id=call_id, name=name, arguments=arguments)))

    def subject_of(self, n: int) -> str:
        return self.journal[n][0].subject

    @property
    def kinds(self) -> list[str]:
        return [type(entry).__name__ for _, entry in self.journal]
