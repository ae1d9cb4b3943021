"""What has to be true of a lead that makes up specialists.

Each is hired once, and known from then on, whoever goes on with the lead's thread. A delegation carries the whole of
whom it is for, and whoever plays that one has its tools and no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shanty_protocol import DelegationSent, HiredSpecialist, ModelReplied, SpecialistHired
from shanty_protocol.ids import HOST
from simulation.kept import Kept
from simulation.ledgers import Effect


def problems(journal: Sequence[Kept], effects: Sequence[Effect]) -> Iterator[str]:
    """Of the lead's journal."""
    hired: dict[str, HiredSpecialist] = {}
    plays: dict[str, HiredSpecialist] = {}
    for each in journal:
        match entry := each.entry:
            case SpecialistHired(specialist=specialist):
                if specialist.name in hired:
                    yield f"{specialist.name} was hired again"
                hired[specialist.name] = specialist
            case DelegationSent(hired=HiredSpecialist() as asked):
                if hired.get(asked.name) != asked:
                    yield f"{entry.to_thread} is for {asked.name} as nobody had hired it"
                plays[entry.to_thread] = asked
            case ModelReplied():
                yield from _forgotten(entry, hired)
            case _:
                pass
    for effect in effects:
        if effect.agent == HOST and effect.tool not in plays[effect.key.split(".")[1]].tools:
            yield f"{effect.tool} of {effect.key} was made by one that was hired without it"


def _forgotten(reply: ModelReplied, hired: dict[str, HiredSpecialist]) -> Iterator[str]:
    for block in reply.blocks:
        if block["type"] != "tool_use" or block["name"] != "delegate":
            continue
        name, refusal = block["input"]["specialist"], reply.refused.get(block["id"], "")
        if name in hired and "no specialist" in refusal:
            yield f"{name} was hired, and then: {refusal}"
