"""Hiring: a lead makes up a specialist for work that nobody on its roster is made for.

The call is fixed by the model's reply, and `specialist.hired` notes it. From then on the hired one is a contract of
the lead like any other, so that every verb knows it by name. Its mail is addressed to `specialist`, the agent that
hosts all hired ones, and each delegation carries the whole of it: any replica of the host can play it from the
journal of its thread alone. The host goes by the team's policy as well, whatever its lead asks for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from shanty_protocol import EntryAddress, HiredSpecialist, ModelReplied, ProtocolError, SpecialistHired
from shanty_protocol.ids import HOST, LOG, checked
from shanty_protocol.zones import NOT_AGENTS
from shanty_runtime.agent.profile import Contract, HirePolicy, Profile
from shanty_runtime.models.base import ToolCard
from shanty_runtime.thread.dialogue import Call
from shanty_runtime.thread.sending import drop_due
from shanty_runtime.thread.state import Due, State
from shanty_runtime.thread.verbs import HireSpecialist, Verb, verb_cards

NAME = "hire_specialist"
MAX_INSTRUCTIONS_CHARACTERS = 20_000


def hire_card(policy: HirePolicy) -> ToolCard:
    """What a lead is told of hiring: which tools and models there are, and how many it may hire."""
    (card,) = verb_cards((NAME,))
    properties = dict(card.input_schema["properties"])
    properties["tools"] = {**properties["tools"], "items": {"enum": list(policy.tools)}}
    properties["model"] = {**properties["model"], "enum": ["", *policy.models]}
    return ToolCard(
        name=card.name,
        description=f"{card.description} You may hire {policy.at_most} in a run.",
        input_schema={**card.input_schema, "properties": properties},
    )


# The lead's side


def problem_with(profile: Profile, order: HireSpecialist) -> str:
    """Why a lead may not hire as it asks to; empty where it may."""
    assert profile.hire is not None, "the verb is offered where there is a policy"
    try:
        checked("name", order.name)
    except ProtocolError:
        return f"{NAME}: {order.name!r} is not a name of lower-case letters, digits and dashes"
    if order.name in NOT_AGENTS or order.name in (HOST, profile.agent):
        return f"{NAME}: {order.name} is somebody else's name; choose another"
    if order.name in profile.contracts:
        return f"{NAME}: there is a specialist {order.name} already; delegate to it, or choose another name"
    if not order.role.strip() or not order.instructions.strip():
        return f"{NAME}: `role` and `instructions` are all that a hired specialist knows of itself: write both"
    if len(order.instructions) > MAX_INSTRUCTIONS_CHARACTERS:
        return f"{NAME}: instructions of {len(order.instructions)} characters; at most {MAX_INSTRUCTIONS_CHARACTERS}"
    hired = sum(contract.hired is not None for contract in profile.contracts.values())
    if hired >= profile.hire.at_most:
        return f"{NAME}: {hired} are hired, which is all that this run may"
    problem = _beyond(profile.hire, order.tools, order.model)
    return f"{NAME}: {problem}" if problem else ""


def leading(profile: Profile, hired: HiredSpecialist) -> Profile:
    """The lead with one more on its roster."""
    contract = Contract(name=hired.name, description=hired.role, hired=hired)
    return msgspec.structs.replace(profile, contracts={**profile.contracts, hired.name: contract})


def described(order: HireSpecialist) -> HiredSpecialist:
    return HiredSpecialist(
        name=order.name, role=order.role, instructions=order.instructions, tools=order.tools, model=order.model
    )


def with_hired(state: State, order: Verb) -> State:
    """What the state is going to be for the calls that come after this one in its turn."""
    assert isinstance(order, HireSpecialist)
    return msgspec.structs.replace(state, profile=leading(state.profile, described(order)))


def carry_out(state: State, call: Call, entry: ModelReplied, order: HireSpecialist) -> None:
    hired = described(order)
    state.profile = leading(state.profile, hired)
    noted = SpecialistHired(at_ms=entry.at_ms, by=entry.by, fence=entry.fence, specialist=hired, call_id=call.id)
    state.due.append(Due(LOG, noted))


def take_hired(state: State, address: EntryAddress, entry: SpecialistHired) -> None:
    drop_due(state, address, entry)
    hired = entry.specialist
    told = {"specialist": hired.name, "tools": hired.tools}
    state.calls[entry.call_id].settle(msgspec.json.encode(told).decode())


# The host's side


def played(profile: Profile, hired: HiredSpecialist) -> Profile:
    """The host as the specialist that a delegation names. What the policy does not allow it does not have."""
    if not profile.hosts:
        return profile
    return msgspec.structs.replace(
        profile,
        hired=hired,
        description=hired.role,
        prompt=hired.instructions,
        version=hashlib.sha256(msgspec.json.encode(hired)).hexdigest()[:12],
        model=profile.models.get(hired.model, profile.model),
        tools={name: profile.tools[name] for name in hired.tools if name in profile.tools},
    )


def problem_at_host(profile: Profile) -> str:
    """Why the host does not work on a delegation; empty where it does, and with agents that host nobody."""
    if not profile.hosts:
        return ""
    if profile.hired is None:
        return f"{HOST} works for specialists that are hired, and the delegation names none"
    assert profile.hire is not None, "a host has a policy"
    return _beyond(profile.hire, profile.hired.tools, profile.hired.model)


def _beyond(policy: HirePolicy, tools: Sequence[str], model: str) -> str:
    if unknown := [name for name in tools if name not in policy.tools]:
        allowed = ", ".join(policy.tools) or "none"
        return f"the team's policy gives no hired specialist {', '.join(unknown)}; allowed: {allowed}"
    if model and model not in policy.models:
        allowed = ", ".join(policy.models) or "none besides the usual one"
        return f"the team's policy gives no hired specialist the model {model}; allowed: {allowed}"
    return ""
