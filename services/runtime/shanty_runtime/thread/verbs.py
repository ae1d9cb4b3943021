"""The tools the engine itself carries out: each becomes an entry of the thread's journal."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shanty_protocol import Effort
from shanty_runtime.models.base import ToolCard
from shanty_runtime.tools.base import argument_schema


class Verb(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every verb shares: arguments nobody asked for are an error the model is told about."""


class Delegate(Verb, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Give a piece of work to a specialist and get its thread id at once. Delegations of one turn run side by
    side. The specialist sees only what you write here."""

    specialist: str
    objective: str
    input: dict[str, Any] | None = None
    expected_output: str = ""
    guidance: str = ""
    boundaries: str = ""
    effort: Effort = "medium"
    files: tuple[str, ...] = ()
    label: str = ""
    deadline_s: float | None = None


class WaitForReplies(Verb, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rest until threads have replied: all of them, any of them, or a quorum; or until the deadline. Gives the
    replies that are in, and who is still at work. Without `threads` it waits for every thread that owes a reply,
    and gives those as well that replied before you asked."""

    threads: tuple[str, ...] = ()
    mode: Literal["all", "any", "quorum"] = "all"
    quorum: int | None = None
    deadline_s: float | None = None


class SendToSpecialist(Verb, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Write to a thread you opened. One that has replied takes it as a follow-up, remembers its work and replies
    again; one that still works reads it at its next step."""

    thread: str
    message: str


class SubmitResult(Verb, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hand in your work. `summary` is what the receiver reads; `files` are workspace paths you wrote."""

    summary: str
    status: Literal["ok", "partial", "failed", "refused"] = "ok"
    result: dict[str, Any] | None = None
    files: tuple[str, ...] = ()


class ReportProgress(Verb, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tell your lead and whoever watches what you have found so far and what comes next. Asks for no answer."""

    summary: str
    percent: int | None = None


VERBS: dict[str, type[Verb]] = {
    "delegate": Delegate,
    "wait_for_replies": WaitForReplies,
    "send_to_specialist": SendToSpecialist,
    "submit_result": SubmitResult,
    "report_progress": ReportProgress,
}

LEAD_VERBS = ("delegate", "wait_for_replies", "send_to_specialist", "submit_result")
SPECIALIST_VERBS = ("submit_result", "report_progress")


def verb_cards(names: tuple[str, ...], output_schema: dict[str, Any] | None = None) -> tuple[ToolCard, ...]:
    """What a model is told of its verbs. `submit_result` asks for the agent's own output schema."""
    return tuple(_card(name, output_schema) for name in names)


def _card(name: str, output_schema: dict[str, Any] | None) -> ToolCard:
    arguments = VERBS[name]
    schema = argument_schema(arguments)
    description = " ".join(schema.pop("description").split())
    if arguments is SubmitResult and output_schema is not None:
        properties = {**schema["properties"], "result": output_schema}
        schema = {**schema, "properties": properties, "required": [*schema["required"], "result"]}
    return ToolCard(name=name, description=description, input_schema=schema)
