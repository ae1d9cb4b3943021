"""Which requests still wait for people, found without reading all of their runs.

A run that rests for days may have thousands of entries, and an inbox thousands of runs. Whether a request of a thread
is open follows from very little: what people have said to it, what its thread has written since, and whether anybody
has asked that thread to stop. The server looks that up by subject for many requests at once. Where it does not tell,
because the thread went on or because it is not plain whose it is, the run is to be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Literal

import msgspec

from shanty_cli.waiting import Waiting
from shanty_protocol import CancelSent, DelegationSent, EntryAddress, ProtocolError
from shanty_protocol.codec import kind_of
from shanty_protocol.ids import ROOT_THREAD, is_agent_thread, lane_of, parent_thread
from shanty_protocol.streams import entry_stream
from shanty_protocol.subjects import beginnings_filter, decision_address, parse_entry, run_mail_filter
from shanty_runtime.bus import Bus, Stored
from shanty_runtime.bus.jetstream import get_few
from shanty_runtime.bus.journals import as_stored

AT_ONCE = 100
"""Requests the server is asked about in one question."""
PLACES_AFTER = 3
"""How many entries a thread may have written after its request for these to be looked through."""
ENDS_WAITING = frozenset({"thread.replied", "thread.failed", "timer.fired"})

Standing = Literal["open", "closed", "unclear"]
Place = tuple[str, str, str, int]
"""Run, thread, agent and number: whoever an entry is addressed to, it has one place."""


async def standings(bus: Bus, requests: Sequence[Waiting]) -> dict[str, Standing]:
    """What is known of each request, by its subject."""
    known: dict[str, Standing] = {}
    by_lane: dict[str, list[Waiting]] = {}
    for request in requests:
        by_lane.setdefault(lane_of(request.run), []).append(request)
    for lane, of_lane in by_lane.items():
        for at in range(0, len(of_lane), AT_ONCE):
            known |= await _standings(bus, lane, of_lane[at : at + AT_ONCE])
    return known


async def _standings(bus: Bus, lane: str, requests: Sequence[Waiting]) -> dict[str, Standing]:
    found = await _look_up(bus, lane, requests)
    if found is not None:
        return {each.request: found.standing(each) for each in requests}
    if len(requests) == 1:
        return {requests[0].request: "unclear"}
    half = len(requests) // 2
    return await _standings(bus, lane, requests[:half]) | await _standings(bus, lane, requests[half:])


class _Found:
    """What was looked up about some requests."""

    def __init__(self) -> None:
        self._places: dict[Place, Stored] = {}
        self._mail: dict[tuple[str, str], list[Stored]] = {}
        """By run and recipient."""
        self._beginners: dict[tuple[str, str], set[str]] = {}
        """By run and thread, who has written there."""

    def take(self, stored: Stored) -> None:
        address = stored.address
        self._places[_place(address)] = stored
        self._mail.setdefault((address.run, address.to), []).append(stored)
        if address.n == 0:
            self._beginners.setdefault((address.run, address.thread), set()).add(address.agent)

    def standing(self, request: Waiting) -> Standing:
        asking = parse_entry(request.request)
        if _place(decision_address(asking)) in self._places:
            return "closed"
        try:
            if request.on_behalf_of or not self._is_whose_it_says(asking) or self._is_asked_to_stop(asking):
                return "unclear"
            return "open" if self._still_waits(request, asking) else "unclear"
        except ProtocolError:
            return "unclear"  # a later version has written some of it

    def _still_waits(self, request: Waiting, asking: EntryAddress) -> bool:
        """Whether the thread has written nothing since that could mean that it waits no more."""
        if request.kind == "budget":
            return asking.thread == ROOT_THREAD and _place(asking, 1) not in self._places
        for distance in range(1, PLACES_AFTER + 1):
            following = self._places.get(_place(asking, distance))
            if following is None:
                return True
            if kind_of(following.entry) in ENDS_WAITING:
                return False
        return False

    def _is_asked_to_stop(self, asking: EntryAddress) -> bool:
        entries = (each.entry for each in self._mail.get((asking.run, asking.agent), ()))
        return any(isinstance(entry, CancelSent) and entry.to_thread == asking.thread for entry in entries)

    def _is_whose_it_says(self, asking: EntryAddress) -> bool:
        """Whether the thread was opened for the agent that asks, by the only one who works on the thread above it."""
        orders = [
            each.address
            for each in self._mail.get((asking.run, asking.agent), ())
            if isinstance(each.entry, DelegationSent) and each.entry.to_thread == asking.thread
        ]
        if asking.thread == ROOT_THREAD:
            from_outside = all(not is_agent_thread(order.thread) for order in orders)
            return bool(orders) and from_outside and self._only_in(asking.run, ROOT_THREAD) == asking.agent
        above = parent_thread(asking.thread) or ROOT_THREAD
        openers = {(order.thread, order.agent) for order in orders}
        return openers == {(above, self._only_in(asking.run, above))}

    def _only_in(self, run: str, thread: str) -> str:
        """The only one who has written in a thread; empty where there are several."""
        beginners = self._beginners.get((run, thread), set())
        return next(iter(beginners)) if len(beginners) == 1 else ""


async def _look_up(bus: Bus, lane: str, requests: Iterable[Waiting]) -> _Found | None:
    """None where there is too much for one question."""
    filters = list(dict.fromkeys(each for request in requests for each in _filters(request)))
    found = _Found()
    from_seq, more = 1, True
    while more:
        asking = partial(get_few, bus.connection, entry_stream(lane), filters, from_seq=from_seq)
        answer = await bus.connection.persist("reading the inbox", asking)
        if answer is None:
            return None
        page, more = answer
        for message in page:
            from_seq = message.seq + 1
            found.take(as_stored(message))
    return found


def _filters(request: Waiting) -> Iterator[str]:
    asking = parse_entry(request.request)
    yield decision_address(asking).guard
    yield run_mail_filter(asking.run, asking.agent)
    for distance in range(1, PLACES_AFTER + 1):
        yield msgspec.structs.replace(asking, n=asking.n + distance).guard
    yield beginnings_filter(asking.run, parent_thread(asking.thread) or ROOT_THREAD)


def _place(address: EntryAddress, distance: int = 0) -> Place:
    return address.run, address.thread, address.agent, address.n + distance
