"""The entries of a journal: facts in the past tense, one tagged union.

An entry is one transaction. It names the mails it consumed by their subjects, and if it is addressed to another
agent it is itself the message. What goes to `log` is a thread's own steps; nobody else needs them.

The sender of an addressed entry and its place are in its subject, so they are not repeated in the body.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shanty_protocol.parts import (
    Brief,
    Budget,
    Criterion,
    FileRef,
    Grade,
    HiredSpecialist,
    Occurrence,
    Outcome,
    Spent,
    Usage,
)


class Fact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """What every entry says."""

    at_ms: int
    """Milliseconds since 1970 by the author's clock."""
    by: str = ""
    """The replica that wrote it."""
    fence: int = 0
    """The lease under which it was written; a later holder's is larger. 0: the one answer, which needs none."""
    consumed: tuple[str, ...] = ()
    """Subjects of the mails and timers this entry took in."""


class Mail(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """What every addressed entry says besides."""

    to_thread: str
    after: str = ""
    """Subject of the entry its author sent to the same thread before this one: mails are consumed in that order."""


class DelegationSent(Mail, frozen=True, kw_only=True, omit_defaults=True, tag="delegation.sent"):
    """Opens the thread `to_thread`. It is answered by exactly one `thread.replied`."""

    brief: Brief
    team: str = ""
    """The team it is meant for: agents of another team leave it alone."""
    call_id: str = ""
    """The model's tool call this came from."""
    item: int | None = None
    """Of a fan-out: which of its items this is for, counted from 0."""
    attempt: int = 1
    """Of a fan-out: the number of this thread among those for that item, from 1."""
    hired: HiredSpecialist | None = None
    """Whom the receiver plays in this thread, where it hosts those that leads have hired."""
    hedges: str = ""
    """The thread that was given the same brief before and has not replied: the first reply of the two counts."""
    occurrence: Occurrence | None = None
    """What started the run, where it was no person."""


class MessageSent(Mail, frozen=True, kw_only=True, omit_defaults=True, tag="message.sent"):
    """A further message to a thread that exists already."""

    purpose: Literal["follow_up", "progress"]
    """`follow_up` goes down and asks for another reply; `progress` goes up and asks for nothing."""
    text: str
    percent: int | None = None
    call_id: str = ""


class CancelSent(Mail, frozen=True, kw_only=True, omit_defaults=True, tag="cancel.sent"):
    """Asks a thread to stop, and with it all that it has opened. A thread that owes a reply replies `cancelled`."""

    mode: Literal["wrap_up", "abort"]
    """`wrap_up` leaves it time to hand in what it has; `abort` stops it where it is."""
    reason: str = ""
    within_s: float = 60.0
    """How long it may take to wrap up; then it is stopped."""
    call_id: str = ""


class QuestionAsked(Mail, frozen=True, kw_only=True, omit_defaults=True, tag="question.asked"):
    """A thread cannot go on without an answer. It is addressed to the agent that opened the thread, or to people.

    A question is known by its subject, so two that say the same are not one.
    """

    question: str
    expires_at_ms: int
    """From then on no answer is taken."""
    options: tuple[str, ...] = ()
    """Answers to choose from; another one may be given."""
    on_behalf_of: str = ""
    """Subject of the question of another thread that is passed on with this one."""
    call_id: str = ""


class QuestionAnswered(Mail, frozen=True, kw_only=True, omit_defaults=True, tag="question.answered"):
    """The answer to a question. It is taken if that question is open and this is whom it was addressed to."""

    question: str
    """Subject of the question."""
    answer: str
    person: str = ""
    """Who said so, where it was a person."""
    call_id: str = ""


class ApprovalRequested(Mail, frozen=True, kw_only=True, omit_defaults=True, tag="approval.requested"):
    """A thread waits until a person has decided on a tool call; addressed to `operators`."""

    call_id: str
    name: str
    arguments: dict[str, Any]
    """What it is about: exactly these arguments."""
    digest: str
    """SHA-256 of the arguments as JSON with sorted keys and without spaces, in UTF-8."""
    expires_at_ms: int
    """From then on the call is denied."""
    policy: str = ""
    """Why a person is asked."""


class ApprovalDecided(Mail, frozen=True, kw_only=True, omit_defaults=True, tag="approval.decided"):
    """What a person has decided; written by `operators` alone, at the place that follows from the request."""

    request: str
    """Subject of the request."""
    digest: str
    """That of the request: what was decided on is what was asked."""
    decision: Literal["allow", "allow_for_thread", "edit", "deny"]
    """`allow_for_thread`: and every later call of that tool in the same thread. `edit`: with these arguments."""
    person: str = ""
    """Who decided."""
    message: str = ""
    """Told to the agent."""
    arguments: dict[str, Any] | None = None
    """Of `edit`: the call is made with exactly these."""
    arguments_digest: str = ""
    """Of `edit`: the digest of these."""
    for_run: bool = False
    """Of `allow_for_thread`: and every later call of that tool in any thread of the run; `approval.standing` says so
    to the others."""


class ApprovalStanding(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="approval.standing"):
    """A person has allowed every later call of a tool in any thread of the run; written by `operators` alone.

    It stands at the one place that follows from the run and the name, where whoever is about to ask reads it first.
    """

    name: str
    """The tool; of delegations `delegate:` and the name of the specialist."""
    request: str = ""
    """Subject of the request it was said to."""
    person: str = ""
    """Who said so."""


class ApprovalRuled(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="approval.ruled"):
    """A call is allowed without asking a person: by a rule, or by what a person had said before."""

    call_id: str
    name: str
    arguments: dict[str, Any]
    """What was ruled on: exactly these arguments."""
    digest: str
    """SHA-256 of the arguments, as that of `approval.requested`."""
    rule: str = ""
    """Which rule of the team says so, in words."""
    standing: str = ""
    """Subject of the `approval.standing` that says so."""


class ThreadWaiting(Mail, frozen=True, kw_only=True, omit_defaults=True, tag="thread.waiting"):
    """A thread, or one below it, waits for people. Goes up to whoever opened it, whose deadline for it stands still.

    It is in no order with what else its author sends, so `after` is empty.
    """

    since_ms: int
    """When the waiting began, by the clock of the author."""
    until_ms: int
    """When it ends at the latest, by the same clock: what people are asked expires then."""


class ThreadResumed(Mail, frozen=True, kw_only=True, omit_defaults=True, tag="thread.resumed"):
    """Nobody below waits for people any more; goes to whom `thread.waiting` went. In no order either."""

    since_ms: int
    """That of the `thread.waiting` it ends."""


class ThreadReplied(Mail, frozen=True, kw_only=True, omit_defaults=True, tag="thread.replied"):
    """The answer to all that the receiver sent to this thread up to `answers`."""

    outcome: Outcome
    answers: str
    """Subject of the newest delegation or follow-up this reply takes into account."""
    usage: Usage = Usage()
    """What the thread has used so far, the threads it opened included."""
    cost_microusd: int | None = None
    """What that cost; none where a price is not known."""
    spent: Spent | None = None
    """What counts against its grant; none from a writer that does not count."""


class BudgetGranted(Mail, frozen=True, kw_only=True, omit_defaults=True, tag="budget.granted"):
    """A person lets a run spend more: what is named here is added to the limits there are."""

    budget: Budget
    reason: str = ""


class ThreadOpened(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="thread.opened"):
    """A worker has started on a delegation (which it names in `consumed`)."""

    budget: Budget | None = None
    """What the thread may spend, where its team limits more than its brief does."""


class ThreadTakenOver(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="thread.taken_over"):
    """The worker that had the thread is gone; another goes on. This is what attempts are counted by."""


class MailReceived(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="mail.received"):
    """Messages were taken in: follow-ups, progress, a request to stop."""


class ReplyReceived(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="reply.received"):
    """Replies of threads this one opened were taken in."""


class ModelReplied(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="model.replied"):
    """One complete model reply. It fixes the ids of its tool calls and all the delegations it makes."""

    blocks: tuple[dict[str, Any], ...]
    stop_reason: str
    model: str
    usage: Usage = Usage()
    shown: int | None = None
    """The place up to which the journal had been shown to the model; none: all that is before this entry."""
    refused: dict[str, str] = {}
    """Tool calls that are not carried out, by id, and the sentence the model is told."""
    to_approve: dict[str, str] = {}
    """Delegations that are not made before a person has allowed them, by the id of their call, and why."""
    cost_microusd: int | None = None
    """Millionths of a US dollar at list price; none where the price of the model is not known."""


class ModelFailed(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="model.failed"):
    """A model call gave no reply."""

    failure: str
    """What kind of failure: rate_limited, overloaded, transient, spend_limit, configuration, too_large, invalid."""
    reason: str
    retry_at_ms: int | None = None
    """When the call is made again; none where it is not."""


class ThreadCompacted(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="thread.compacted"):
    """The model's view of the thread was made smaller. The journal keeps everything."""

    summary: str = ""
    """What stands in place of all that was said; empty where only old tool results were cleared."""
    keep_messages: int = 0
    """How many of the newest messages stay as they were."""
    model: str = ""
    usage: Usage = Usage()
    cost_microusd: int | None = None


class ToolCalled(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="tool.called"):
    """The intent to make a call that has an effect: written before acting."""

    call_id: str
    name: str
    arguments: dict[str, Any] = {}
    fenced: bool = False
    """The tool gateway makes the call, and knows what became of it."""


class ToolDelayed(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="tool.delayed"):
    """A call that was announced cannot be made yet. It is made as soon as it can be: nobody has to do it again."""

    call_id: str
    name: str
    reason: str


class ToolReturned(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="tool.returned"):
    """What a call gave. `unknown` means: it may have happened, nobody can tell, and it was not repeated."""

    call_id: str
    name: str
    content: str
    status: Literal["ok", "error", "unknown"] = "ok"
    files: tuple[FileRef, ...] = ()


class EffectFenced(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="effect.fenced"):
    """A call had not been started when a later holder of its thread asked: no earlier one can start it any more.

    This and the two kinds below are the tool gateway's. Each call has a journal of its own there.
    """

    agent: str
    """Whose call it is; `fence` is that of the worker that asked."""
    thread: str
    call_id: str
    withdrawn: bool = False
    """Nobody can start it any more: its thread was told to stop."""


class EffectStarted(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="effect.started"):
    """A replica of the tool gateway makes the call: written before acting."""

    agent: str
    thread: str
    call_id: str
    name: str
    digest: str
    """SHA-256 of the arguments as canonical JSON."""


class EffectEnded(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="effect.ended"):
    """What a call gave. `unknown`: the replica that made it was gone before it could say."""

    call_id: str
    status: Literal["ok", "error", "unknown"] = "ok"
    content: str = ""
    files: tuple[FileRef, ...] = ()


class TimerFired(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="timer.fired"):
    """The time of this entry has come: whatever was to be answered by then is late."""

    unstarted: tuple[str, ...] = ()
    """Late threads that nobody had started on."""


class BudgetExhausted(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="budget.exhausted"):
    """A thread has spent what it was granted: it replies `budget_exhausted` with what it has."""

    code: str
    """Which limit: the code of its reply."""
    limits: Budget
    spent: Spent


class BudgetRequested(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="budget.requested"):
    """A run has spent what it may, and waits until a person grants it more; addressed to `operators`."""

    code: str
    limits: Budget
    spent: Spent
    """Grants of threads that were given up count as spent."""


class FanOutStarted(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="fanout.started"):
    """A list of items is given to a specialist, a thread an item. The call this came from says how.

    It ends with the `tool.returned` of the call, which names the file with a line for each item.
    """

    call_id: str
    specialist: str
    items: int
    """How many there are."""
    at_most: int
    """How many threads may be at work at once."""
    retries: int = 0
    """How many more threads an item may get after one that failed or did not answer in time."""
    source: FileRef | None = None
    """The file they are in; none where they are among the arguments of the call."""
    refused: dict[str, str] = {}
    """Items that no thread is opened for, by their number from 0, and why."""


class SpecialistHired(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="specialist.hired"):
    """A lead has made up a specialist. Delegations to it are addressed to `specialist`, and say whom they are for."""

    specialist: HiredSpecialist
    call_id: str = ""
    """The model's tool call this came from."""


class GradingStarted(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="grading.started"):
    """A run has handed in a deliverable, which a grader judges before it is the answer.

    The next entry is the delegation to the grader. The reply of that thread is what it found.
    """

    grader: str
    """The agent that judges."""
    criteria: tuple[Criterion, ...]
    round: int
    rounds: int
    call_id: str = ""
    """The model's tool call it was handed in with; empty where it was handed in as plain words."""


class DeliverableGraded(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="deliverable.graded"):
    """What became of a deliverable that was to be judged: it is the answer, or its author goes on with it."""

    grade: Grade
    thread: str = ""
    """The thread that judged it; empty where none could be opened."""


class ThreadFailed(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="thread.failed"):
    """The thread cannot go on; addressed to `dead`."""

    code: str
    reason: str


class MailRejected(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="mail.rejected"):
    """A mail that could not be processed; addressed to `dead`. The mail itself stays where it was stored."""

    mail: str
    code: str
    reason: str
    traceparent: str = ""


class ScheduleArmed(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="schedule.armed"):
    """A schedule is in force from this moment on: what it would have started before is not made up for."""

    team: str
    trigger: str
    schedule: str
    timezone: str


class TriggerFailed(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="trigger.failed"):
    """A message could not start a run; addressed to `dead`. The message itself stays in its stream for a while."""

    team: str
    code: str
    reason: str
    trigger: str = ""
    """Empty where the team has none for that subject."""
    subject: str
    """What the message was sent to."""
    stream: str
    seq: int
    """The message's place in that stream."""
    traceparent: str = ""


class MailRetried(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="mail.retried"):
    """The mail of a dead letter is to be processed as if it came now; written by `operators` alone."""

    letter: str
    """Subject of the letter."""
    mail: str
    """Subject of the mail, which has the same recipient."""
    person: str = ""
    """Who said so."""


class LetterDropped(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="letter.dropped"):
    """Somebody has looked at a dead letter, and nothing more is to be done about it; addressed to `dead`."""

    letter: str
    reason: str = ""
    person: str = ""


Entry = (
    DelegationSent
    | MessageSent
    | CancelSent
    | QuestionAsked
    | QuestionAnswered
    | ApprovalRequested
    | ApprovalDecided
    | ApprovalStanding
    | ApprovalRuled
    | ThreadWaiting
    | ThreadResumed
    | ThreadReplied
    | ThreadOpened
    | ThreadTakenOver
    | MailReceived
    | ReplyReceived
    | ModelReplied
    | ModelFailed
    | ThreadCompacted
    | ToolCalled
    | ToolDelayed
    | ToolReturned
    | EffectFenced
    | EffectStarted
    | EffectEnded
    | TimerFired
    | FanOutStarted
    | SpecialistHired
    | GradingStarted
    | DeliverableGraded
    | BudgetGranted
    | BudgetExhausted
    | BudgetRequested
    | ThreadFailed
    | MailRejected
    | ScheduleArmed
    | TriggerFailed
    | MailRetried
    | LetterDropped
)

AddressedEntry = (
    DelegationSent
    | MessageSent
    | CancelSent
    | QuestionAsked
    | QuestionAnswered
    | ApprovalRequested
    | ApprovalDecided
    | BudgetGranted
    | ThreadWaiting
    | ThreadResumed
    | ThreadReplied
)
