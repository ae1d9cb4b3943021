"""Before people are asked about calls: whether they have allowed them for the whole run already.

What people allow for a run stands at one place for each tool, addressed to nobody. Whoever is about to ask looks
there first, and notes in its own journal what it has found: nothing that is allowed later changes what was asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from shanty_protocol import ApprovalStanding, ProtocolError
from shanty_protocol.subjects import standing_address
from shanty_runtime.agent.permissions import permitted_as
from shanty_runtime.bus import Stored
from shanty_runtime.thread import approvals
from shanty_runtime.thread.decide import Draft
from shanty_runtime.thread.dialogue import Call
from shanty_runtime.worker.held import HeldThread


async def ask_people(held: HeldThread, calls: Sequence[Call]) -> None:
    """Ask about each of these calls, or note what allows it."""
    asked = [call for call in calls if approvals.needs_approval(held.state, call)]
    standing = await _standing(held, {permitted_as(call.name, call.arguments) for call in asked})
    stamp = held.stamp()
    entries = approvals.entries_for(held.state, calls, standing, at_ms=stamp.at_ms, by=stamp.by, fence=stamp.fence)
    await held.write([Draft(to, entry) for to, entry in entries])


async def _standing(held: HeldThread, names: set[str]) -> dict[str, str]:
    """Subjects of what people have allowed for the run, by name."""
    places = {standing_address(held.state.run, name).subject: name for name in names}
    stored = await held.bus.journals.get_all(sorted(places))
    return {places[subject]: subject for subject, one in stored.items() if _allows(one, places[subject])}


def _allows(stored: Stored, name: str) -> bool:
    try:
        entry = stored.entry
    except ProtocolError:
        return False  # what cannot be read allows nothing
    return isinstance(entry, ApprovalStanding) and entry.name == name
