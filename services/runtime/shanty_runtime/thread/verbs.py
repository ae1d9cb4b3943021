"""The tools the engine itself carries out: each becomes an entry of the thread's journal."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shanty_protocol import Effort
from shanty_runtime.agent.budget import Allowance
from shanty_runtime.models.base import ToolCard
from shanty_runtime.tools.base import argument_schema


class Verb(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every verb shares: arguments nobody asked for are an error the model is told about."""


class Delegate(Verb, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Give a piece of work to a specialist and get its thread id at once. Delegations of one turn run side by
    side. The specialist sees only what you write here. `budget` is a grant out of what you may spend yourself, and
    what is not spent comes back with the reply. Where you are limited and name no budget, you and the delegations of
    the turn that name none get equal parts of what is left; threads are not shared like that."""

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
    budget: Allowance | None = None


class DelegateEach(Verb, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Give each item of a list to a specialist, a thread an item, `at_most` at a time, and rest until all have
    replied. The items are in `items`, or in a workspace `file`: a JSON list, or a line of JSON an item. `objective`
    says {item} where the item goes. A specialist with typed input gets the item as its input, or as the field
    `input_field` of it, beside what `input` says of all. An item that fails or does not answer in time is tried
    again `retries` times. The replies are not shown to you: they go to the workspace file `output`, a line of JSON
    an item, in the order of the items, and you get the counts. `budget` is what each item is granted; where you are
    limited and name none, each gets an equal part of what is left for all that are still to begin, and you."""

    specialist: str
    objective: str
    output: str
    items: tuple[Any, ...] | None = None
    file: str = ""
    input: dict[str, Any] | None = None
    input_field: str = ""
    expected_output: str = ""
    guidance: str = ""
    boundaries: str = ""
    effort: Effort = "medium"
    files: tuple[str, ...] = ()
    label: str = ""
    at_most: int = 16
    retries: int = 1
    deadline_s: float | None = None
    budget: Allowance | None = None


class HireSpecialist(Verb, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make up a specialist for work that none of yours is made for, and delegate to it by its `name` as to any
    other. `role` says in a sentence what it is for, and `instructions` are its whole prompt: it knows nothing else of
    itself. It has the workspace and other tools only as far as you name them in `tools`."""

    name: str
    role: str
    instructions: str
    tools: tuple[str, ...] = ()
    model: str = ""


class WaitForReplies(Verb, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rest until threads have replied: all of them, any of them, or a quorum; or until the deadline. Gives the
    replies that are in, and who is still at work. Without `threads` it waits for every thread that owes a reply,
    and gives those as well that replied before you asked. It ends early with `questions` where a specialist needs
    an answer of yours to go on."""

    threads: tuple[str, ...] = ()
    mode: Literal["all", "any", "quorum"] = "all"
    quorum: int | None = None
    deadline_s: float | None = None


class SendToSpecialist(Verb, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Write to a thread you opened. One that has replied takes it as a follow-up, remembers its work and replies
    again; one that still works reads it at its next step."""

    thread: str
    message: str


class Cancel(Verb, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stop a thread you opened that is still at work, and all it has opened. `wrap_up` asks it to hand in what it
    has; `abort` stops it where it is. Either way it replies `cancelled`."""

    thread: str
    mode: Literal["wrap_up", "abort"] = "wrap_up"
    reason: str = ""
    within_s: float = 60.0


class AskLead(Verb, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask your lead something you cannot find out and cannot go on without, and rest until it has answered.
    `options` are answers it may choose from."""

    question: str
    options: tuple[str, ...] = ()
    deadline_s: float | None = None


class AskHuman(Verb, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask a person, and rest until somebody has answered, which can take hours: only what no file, tool or agent can
    tell you. `options` are answers to choose from. With `on_behalf_of`, the id of a specialist's question, you pass
    that question on and do not rest: the answer goes to the specialist, and you are told."""

    question: str
    options: tuple[str, ...] = ()
    on_behalf_of: str = ""
    deadline_s: float | None = None


class AnswerSpecialist(Verb, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Answer a question that a thread you opened has asked you. `question` is the id it came with."""

    question: str
    answer: str


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
    "delegate_each": DelegateEach,
    "hire_specialist": HireSpecialist,
    "wait_for_replies": WaitForReplies,
    "send_to_specialist": SendToSpecialist,
    "cancel": Cancel,
    "ask_lead": AskLead,
    "ask_human": AskHuman,
    "answer_specialist": AnswerSpecialist,
    "submit_result": SubmitResult,
    "report_progress": ReportProgress,
}

LEAD_VERBS = (
    "delegate",
    "delegate_each",
    "wait_for_replies",
    "send_to_specialist",
    "answer_specialist",
    "ask_human",
    "cancel",
    "submit_result",
)
SPECIALIST_VERBS = ("submit_result", "report_progress", "ask_lead")


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
