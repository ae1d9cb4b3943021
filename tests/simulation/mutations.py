"""Bugs that are planted in the engine, one at a time, to see whether the simulator finds them.

Each is something a person could write by mistake, and keeps a promise only as long as nothing goes wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from shanty_protocol import (
    DeliverableGraded,
    EffectEnded,
    EffectStarted,
    Entry,
    EntryAddress,
    Grade,
    ModelReplied,
    Outcome,
    ThreadReplied,
    TimerFired,
)
from shanty_protocol.headers import KIND
from shanty_protocol.subjects import journal_filter
from shanty_runtime.agent import Profile
from shanty_runtime.bus import Delivery, JournalPart, Journals, Lease, Placed, Stored, jetstream, written
from shanty_runtime.bus.jetstream import RawMessage, Taken
from shanty_runtime.bus.journals import Written, as_stored
from shanty_runtime.bus.leases import Leases
from shanty_runtime.thread import approvals, grading, hedging, hiring
from shanty_runtime.thread.decide import IN_ORDER, Received
from shanty_runtime.thread.escrow import Escrow, granted_of
from shanty_runtime.thread.state import Child, State
from shanty_runtime.worker import activation, calls
from shanty_runtime.worker.activation import Activation
from shanty_runtime.worker.held import HeldThread
from shanty_runtime.worker.workplace import Loaded, Workplace
from shanty_toolgateway import gateway
from shanty_toolgateway.effect import Effect, take

# The package has functions of the same names.
decide = importlib.import_module("shanty_runtime.thread.decide")
fold = importlib.import_module("shanty_runtime.thread.fold")

Patch = tuple[Any, str, Any]
"""An owner, the name of something of it, and what takes its place."""


class Mutation(msgspec.Struct, frozen=True):
    name: str
    patches: tuple[Patch, ...]

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in self.patches]
        try:
            for owner, name, value in self.patches:
                setattr(owner, name, value)
            yield
        finally:
            for owner, name, value in before:
                setattr(owner, name, value)


MUTATIONS: dict[str, Mutation] = {}


def _mutation(*places: tuple[Any, str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The function is the mutant of what stands at each of the places. It gets the original as its first argument."""

    def plant(mutant: Callable[..., Any]) -> Callable[..., Any]:
        name = mutant.__name__.replace("_", " ")
        patches = []
        for owner, attribute in places:
            original = getattr(owner, attribute)

            def replaced(*args: Any, _original: Any = original, **kwargs: Any) -> Any:
                return mutant(_original, *args, **kwargs)

            patches.append((owner, attribute, replaced))
        MUTATIONS[name] = Mutation(name, tuple(patches))
        return mutant

    return plant


@_mutation((Activation, "post"))
def mail_is_acked_before_it_is_taken_in(
    original: Any, self: Activation, mail: Received, delivery: Delivery | None = None
) -> None:
    original(self, mail, delivery)
    if delivery is not None:
        _spawn(delivery.ack())


@_mutation((Activation, "post_timer"))
def a_timer_is_acked_before_anything_is_done(original: Any, self: Activation, due: Any, delivery: Delivery) -> None:
    original(self, due, delivery)
    _spawn(delivery.ack())


@_mutation((Workplace, "load"))
async def a_fan_out_is_resumed_from_its_start(original: Any, self: Workplace, run: str, thread: str) -> Loaded:
    loaded: Loaded = await original(self, run, thread)
    if loaded.state.due:
        part = await self.bus.journals.read(run, thread, self.profile.agent)
        mails = await self._contents(part.entries)
        state = State(run=run, thread=thread, profile=self.profile)
        due = loaded.state.due
        for stored in part.entries:
            fold.apply(state, stored.address, stored.entry, mails)
            if isinstance(stored.entry, ModelReplied) and state.due:
                due = deque(state.due)
        loaded.state.due = due
    return loaded


@_mutation((Journals, "read"))
async def a_gap_in_a_journal_is_read_over(
    original: Any, self: Journals, run: str, thread: str, agent: str, *, from_n: int = 0, from_seq: int = 0
) -> JournalPart:
    found: list[Stored] = []
    async for message in self._read_on(run, journal_filter(run, thread, agent), from_seq):
        found.append(as_stored(message))
    later = sorted((stored for stored in found if stored.address.n >= from_n), key=lambda stored: stored.address.n)
    renumbered = [
        Stored(msgspec.structs.replace(stored.address, n=n), stored.seq, stored.data, stored.headers)
        for n, stored in enumerate(later, from_n)
    ]
    return JournalPart(tuple(renumbered), max((stored.seq + 1 for stored in found), default=max(from_seq, 1)))


@_mutation((Lease, "held"))
def the_lease_is_not_checked_before_an_effect(original: Any, self: Lease) -> bool:
    return True


@_mutation((Leases, "_take"))
async def a_lease_is_taken_from_its_holder(original: Any, self: Leases, key: str, wish: Any) -> Any:
    standing = await self._look(key)
    if standing is not None:
        self._traces[key] = standing
    return await original(self, key, wish)


@_mutation((Workplace, "load"))
async def what_was_taken_in_is_forgotten(original: Any, self: Workplace, run: str, thread: str) -> Loaded:
    fresh = (run, thread) not in self._states
    loaded: Loaded = await original(self, run, thread)
    if fresh:
        loaded.state.consumed.clear()
        loaded.state.heard_from.clear()
    return loaded


@_mutation((Escrow, "settle"))
def a_grant_is_returned_twice(original: Any, self: Escrow, thread: str, *args: Any, **kwargs: Any) -> None:
    original(self, thread, *args, **kwargs)
    account = self.accounts[thread]
    for name, amount in granted_of(account.grant).items():
        self.counted[name] -= max(0, amount - account.spent.get(name, 0))


@_mutation((HeldThread, "_append"))
async def a_reply_is_acted_on_before_it_is_stored(original: Any, self: HeldThread, entry: Written) -> Any:
    if entry.headers[KIND] != "model.replied":
        return await original(self, entry)
    _spawn(original(self, entry))
    return Stored(entry.address, 0, entry.data, entry.headers)


@_mutation((HeldThread, "_append"))
async def a_result_is_acted_on_before_it_is_stored(original: Any, self: HeldThread, entry: Written) -> Any:
    if entry.headers[KIND] != "tool.returned":
        return await original(self, entry)
    _spawn(original(self, entry))
    return Stored(entry.address, 0, entry.data, entry.headers)


@_mutation((calls, "announce"))
async def an_effect_is_not_announced(original: Any, *args: Any, **kwargs: Any) -> None:
    return


@_mutation((calls, "run_call"))
async def an_unknown_effect_is_repeated(original: Any, *args: Any, recovered: bool, **kwargs: Any) -> None:
    await original(*args, recovered=False, **kwargs)


@_mutation((Workplace, "load"))
async def a_reply_is_sent_again(original: Any, self: Workplace, run: str, thread: str) -> Loaded:
    fresh = (run, thread) not in self._states
    loaded: Loaded = await original(self, run, thread)
    if fresh and not loaded.state.owes_reply:
        loaded.state.answered = ""
    return loaded


@_mutation((Activation, "_set_timer"))
async def a_timer_is_not_set_again_on_recovery(original: Any, self: Activation) -> None:
    if not self.held.abandoned:
        await original(self)


@_mutation((activation, "decide"))
def a_takeover_is_not_counted(original: Any, *args: Any, abandoned: bool) -> Any:
    return original(*args, abandoned=False)


@_mutation((decide, "admit"))
def mail_is_taken_in_out_of_order(original: Any, state: State, mail: Received, taken: Sequence[Received]) -> Any:
    admission = original(state, mail, taken)
    ahead = admission == "wait" and state.opener is not None and isinstance(mail.entry, IN_ORDER)
    return "take" if ahead else admission


@_mutation((jetstream, "write_once"))
async def a_place_that_is_taken_is_taken_for_ours(
    original: Any, connection: Any, stream: str, subject: str, guard: str, data: bytes, headers: Mapping[str, str]
) -> RawMessage:
    expecting = {**headers, jetstream.EXPECT_SEQ: "0", jetstream.EXPECT_SEQ_SUBJECT: guard}

    async def attempt() -> RawMessage:
        try:
            seq = await jetstream.publish(connection, subject, data, expecting)
        except Taken:
            seq = 0
        return RawMessage(subject, seq, data, dict(headers))

    result: RawMessage = await connection.persist(f"writing {subject}", attempt)
    return result


@_mutation((approvals, "take_decision"))
def a_denial_is_taken_for_consent(original: Any, state: State, decision: Any) -> Any:
    return original(state, msgspec.structs.replace(decision, decision="allow"))


@_mutation((fold, "_take_own_reply"))
def what_was_answered_is_not_noted(original: Any, state: State, address: EntryAddress, entry: ThreadReplied) -> None:
    before = state.answered
    original(state, address, entry)
    if len(state.consumed) > 2:
        state.answered = before


@_mutation((hedging, "make_cancel_due"))
def whoever_was_second_is_left_at_work(original: Any, *args: Any) -> None:
    return


@_mutation((hedging, "make_hedges_due"))
def a_brief_is_hedged_again_and_again(original: Any, state: State, entry: TimerFired) -> None:
    before = {child.thread: (child.hedge_at_ms, child.brief) for child in state.hedgeable}
    original(state, entry)
    for thread, (at_ms, brief) in before.items():
        child = state.children[thread]
        child.hedge_at_ms, child.brief = child.hedge_at_ms or at_ms + 1_000, brief


@_mutation((hedging, "_other"))
def the_second_of_two_stands_for_itself(original: Any, state: State, child: Child) -> Child | None:
    other: Child | None = original(state, child)
    return None if child.hedges else other


@_mutation((grading, "end"))
def rounds_of_judging_are_not_counted(
    original: Any, state: State, address: EntryAddress, entry: DeliverableGraded
) -> None:
    original(state, address, entry)
    state.rounds = 0


@_mutation((grading, "is_to_be_judged"))
def what_was_sent_back_is_not_judged_again(original: Any, state: State) -> bool:
    return bool(original(state)) and state.unsatisfying is None


@_mutation((grading, "grade_of"))
def a_grader_that_found_nothing_is_satisfied(original: Any, outcome: Outcome, *args: Any) -> Grade:
    grade: Grade = original(outcome, *args)
    return msgspec.structs.replace(grade, verdict="satisfied") if grade.verdict == "ungraded" else grade


@_mutation((Workplace, "load"))
async def whom_a_lead_has_hired_is_forgotten(original: Any, self: Workplace, run: str, thread: str) -> Loaded:
    fresh = (run, thread) not in self._states
    loaded: Loaded = await original(self, run, thread)
    if fresh and self.profile.role == "lead":
        loaded.state.profile = self.profile
    return loaded


@_mutation((hiring, "played"))
def whoever_is_hired_has_all_that_its_host_has(original: Any, profile: Profile, *args: Any) -> Profile:
    playing: Profile = original(profile, *args)
    return msgspec.structs.replace(playing, tools=profile.tools)


@_mutation((hiring, "drop_due"))
def whom_a_lead_has_hired_it_hires_again(original: Any, *args: Any) -> None:
    return


@_mutation((gateway._Call, "_append"))
async def the_tool_gateway_acts_before_it_has_written_that_it_does(
    original: Any, self: Any, effect: Effect, entry: Entry
) -> bool:
    if not isinstance(entry, EffectStarted):
        return bool(await original(self, effect, entry))
    take(effect, _stored_some_time(self, effect, entry))
    return True


@_mutation((gateway._Call, "_place"))
async def the_tool_gateway_answers_before_it_has_written_what_came_of_it(
    original: Any, self: Any, effect: Effect, entry: Entry
) -> Any:
    if not isinstance(entry, EffectEnded):
        return await original(self, effect, entry)
    return Placed(_stored_some_time(self, effect, entry, after_s=0.05), True)


@_mutation((gateway._Call, "_recover"))
async def the_tool_gateway_makes_a_call_again(original: Any, self: Any, lease: Lease, effect: Effect) -> Any:
    return await self._make(lease, effect)


@_mutation((calls, "is_fenced"))
def whoever_takes_over_makes_the_calls_of_the_tool_gateway(original: Any, held: HeldThread, call: Any) -> bool:
    return bool(original(held, call)) and not (call.intended and held.abandoned)


def _stored_some_time(call: Any, effect: Effect, entry: Entry, after_s: float = 0.0) -> Stored:
    place = msgspec.structs.replace(call._first, n=effect.next_n)
    entry_written = written(place, entry, effect.chained_to)

    async def store() -> None:
        await asyncio.sleep(after_s)
        await call._bus.journals.place(entry_written)

    _spawn(store())
    return Stored(place, 0, entry_written.data, entry_written.headers)


def _spawn(work: Any) -> None:
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
