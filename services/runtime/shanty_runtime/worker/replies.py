"""What the models of a stored run have replied, and to what: found by folding its journals once more.

A reply is an entry of its thread's journal. What it replied to is not, since it follows from the entries before it;
`shown` of a reply says where it was asked for, if something came in while it was being made. So a run that nobody has
recorded can be replayed as well, as long as its journals are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from shanty_protocol import AddressedEntry, Entry, MailReceived, ModelReplied, ThreadCompacted
from shanty_protocol.ids import is_agent_thread
from shanty_runtime.agent.profile import Profile
from shanty_runtime.bus import Stored
from shanty_runtime.errors import ConfigError
from shanty_runtime.models.base import Message, ModelReply
from shanty_runtime.models.replay import Recorded, digests
from shanty_runtime.thread.dialogue import text_block
from shanty_runtime.thread.fold import apply
from shanty_runtime.thread.state import State
from shanty_runtime.worker.asking import SUMMARISE


def recorded_replies(profile: Profile, run: Sequence[Stored]) -> list[Recorded]:
    """Every model reply in the threads of an agent, as a recording would have it.

    `profile` is the agent as it would play the run now: its journals are folded by that. Raises ConfigError where
    that cannot have been who wrote them.
    """
    mails: dict[str, Entry] = {
        stored.address.subject: stored.entry for stored in run if isinstance(stored.entry, AddressedEntry)
    }
    journals: dict[str, dict[int, Stored]] = {}
    for stored in run:
        address = stored.address
        if address.agent == profile.agent and is_agent_thread(address.thread):
            journals.setdefault(address.thread, {})[address.n] = stored
    found: list[Recorded] = []
    for thread, journal in journals.items():
        entries = tuple(_up_to_first_gap(journal))
        if entries:
            state = State(run=entries[0].address.run, thread=thread, profile=profile)
            found += _replies_of(state, entries, mails)
    return found


def _up_to_first_gap(journal: Mapping[int, Stored]) -> Iterator[Stored]:
    for n in range(len(journal)):
        if n not in journal:
            return
        yield journal[n]


def _replies_of(state: State, journal: Sequence[Stored], mails: Mapping[str, Entry]) -> Iterator[Recorded]:
    asked_at = {n: tuple(_asked_at(journal, n)) for n in range(len(journal))}
    kept = {place for places in asked_at.values() for place in places}
    conversations: dict[int, tuple[str, list[Message]]] = {}
    for n, stored in enumerate(journal):
        if n in kept:
            conversations[n] = state.profile.name, state.dialogue.next_messages()
        for place in asked_at[n]:
            agent, messages = conversations[place]
            reply, last_words = _reply_in(stored.entry)
            said = tuple(digests([*messages, *last_words]))
            yield Recorded(agent=agent, thread=state.thread, said=said, reply=reply)
        try:
            apply(state, stored.address, stored.entry, mails)
        except (LookupError, AssertionError, ValueError, TypeError, msgspec.MsgspecError) as error:
            # What a sound journal names is there, in a team that is as it was: specialists, calls, mail.
            told = f"entry {stored.address.subject} is not one that this team would have written: {error!r}"
            raise ConfigError(told) from error
        if state.team not in ("", state.profile.team):
            raise ConfigError(f"it is a run of team {state.team}, and this is team {state.profile.team}")


def _asked_at(journal: Sequence[Stored], n: int) -> Iterator[int]:
    """The places of a journal before one of which the reply at place n may have been asked for; none where there is
    no reply."""
    match journal[n].entry:
        case ModelReplied(shown=int() as shown) if 0 <= shown <= n:
            yield shown
        case ModelReplied():
            yield n
        case ThreadCompacted() as entry if entry.model:
            # It does not say whether something was taken in while the summary was being made.
            yield n
            while n and isinstance(journal[n - 1].entry, MailReceived):
                n -= 1
                yield n
        case _:
            return


def _reply_in(entry: Entry) -> tuple[ModelReply, tuple[Message, ...]]:
    """The reply that an entry is, and what its model was told after the conversation."""
    if isinstance(entry, ModelReplied):
        reply = ModelReply(blocks=entry.blocks, stop_reason=entry.stop_reason, model=entry.model, usage=entry.usage)
        return reply, ()
    assert isinstance(entry, ThreadCompacted), "nothing else is asked for"
    summary = ModelReply(
        blocks=(text_block(entry.summary),), stop_reason="end_turn", model=entry.model, usage=entry.usage
    )
    return summary, (Message("user", (text_block(SUMMARISE),)),)
