"""A fan-out: each item of a list is given to a specialist, a thread an item, so many at a time.

It begins with `fanout.started`, which fixes the list: how many items there are, in which version of which file, and
which of them are refused. From then on the journal alone says which item is next, so each delegation is due as soon
as there is room for it. Only its brief needs the item itself, and is made when the delegation is written. It ends
with the `tool.returned` of its call, once the file with a line for each item is there.

A fan-out counts against the limits of its team as any delegation does. It opens a thread only while fewer than
`max_active_threads` are at work, its own and others. Its items must fit into what is left of `max_threads`, and an
item is tried again only while one is left.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from shanty_protocol import Brief, FanOutStarted, FileRef, Outcome, Status
from shanty_runtime.agent.profile import Contract, Profile
from shanty_runtime.agent.schema import problems_with
from shanty_runtime.thread.verbs import DelegateEach

NAME = "delegate_each"
MAX_ITEMS = 1_000
MAX_AT_ONCE = 64
MAX_RETRIES = 10
MAX_BRIEF_BYTES = 256 * 1024
"""A larger brief is not written: an item of that size belongs in a file, and its path in the list."""
MAX_PROBLEM_CHARACTERS = 300
TRIED_AGAIN = frozenset[Status]({"failed", "timed_out", "unreachable"})
NOT_READ = (
    "You have one item of many, and your lead rests until all are done, so it reads no questions. "
    "Go on with what you know, and say in your result what you had to assume."
)
FAILURES_SHOWN = 5
"""Items that did not go well, which the model is told of; all are in the file."""


class Item(msgspec.Struct, frozen=True):
    """One entry of the list, and what is wrong with it; nothing, as a rule."""

    value: Any
    problem: str = ""


class Attempt(msgspec.Struct, frozen=True):
    """Which item a thread is for, and the number of that thread among those for it, from 1."""

    item: int
    number: int


class Answer(msgspec.Struct, frozen=True):
    """What became of an item."""

    outcome: Outcome
    thread: str = ""
    attempts: int = 0


class FanOut(msgspec.Struct):
    call_id: str
    order: DelegateEach
    specialist: str
    items: int
    at_most: int
    retries: int
    source: FileRef | None
    waiting: deque[Attempt]
    """Those no thread has been opened for, in the order in which they will be."""
    at_work: dict[str, Attempt] = {}
    """By thread."""
    beside: int = 0
    """Threads at work on an item that another thread has as well."""
    answers: dict[int, Answer] = {}
    """By item."""
    stopped: str | None = None
    """Why nothing more is opened."""

    @property
    def over(self) -> bool:
        return not self.waiting and not self.at_work

    @property
    def room(self) -> int:
        """How many more threads this fan-out may have at work."""
        return min(self.at_most - len(self.at_work), len(self.waiting))

    def take(self, thread: str, outcome: Outcome, *, again: bool) -> None:
        """A thread has replied, or was late. `again`: the run may open another one for its item."""
        attempt = self.at_work.pop(thread)
        tried_again = outcome.status in TRIED_AGAIN and attempt.number <= self.retries
        if tried_again and again and self.stopped is None:
            self.waiting.append(Attempt(attempt.item, attempt.number + 1))
        else:
            self.answers[attempt.item] = Answer(outcome, thread, attempt.number)

    def stop(self, reason: str) -> None:
        """Open nothing more: what waits for a thread is not begun."""
        self.stopped = reason
        why = f"not begun: {reason}" if reason else "not begun"
        for attempt in self.waiting:
            outcome = Outcome(status="cancelled", code="cancelled", summary=why)
            self.answers[attempt.item] = Answer(outcome, "", attempt.number - 1)
        self.waiting.clear()

    def end(self, reason: str) -> None:
        """Wait for nobody any more."""
        self.stop(reason)
        for thread, attempt in self.at_work.items():
            outcome = Outcome(status="cancelled", code="aborted", summary=reason)
            self.answers[attempt.item] = Answer(outcome, thread, attempt.number)
        self.at_work.clear()


def started(order: DelegateEach, entry: FanOutStarted) -> FanOut:
    refused = {int(item): problem for item, problem in entry.refused.items()}
    return FanOut(
        call_id=entry.call_id,
        order=order,
        specialist=entry.specialist,
        items=entry.items,
        at_most=entry.at_most,
        retries=entry.retries,
        source=entry.source,
        waiting=deque(Attempt(item, 1) for item in range(entry.items) if item not in refused),
        answers={
            item: Answer(Outcome(status="failed", code="invalid_input", summary=problem))
            for item, problem in refused.items()
        },
    )


# What a call may ask for


def problem_with(profile: Profile, order: DelegateEach) -> str:
    """Why a call cannot be carried out, whatever its items are; empty where it can."""
    contract = profile.contracts[order.specialist]
    if (order.items is None) == (not order.file):
        return f"{NAME}: give either `items` or `file`"
    if order.items is not None and not 1 <= len(order.items) <= MAX_ITEMS:
        return f"{NAME}: {len(order.items)} items; from 1 to {MAX_ITEMS} can be given"
    if not order.objective.strip():
        return f"{NAME}: `objective` is empty; the specialist knows nothing but what you write"
    if not _has_input(contract, order) and ITEM not in order.objective:
        return f"{NAME}: `objective` must say {ITEM} where the item goes"
    if not order.output:
        return f"{NAME}: `output` is empty; it is the workspace file that the replies go to"
    if not 1 <= order.at_most <= MAX_AT_ONCE:
        return f"{NAME}: at_most must be from 1 to {MAX_AT_ONCE}"
    if not 0 <= order.retries <= MAX_RETRIES:
        return f"{NAME}: retries must be from 0 to {MAX_RETRIES}"
    return ""


# Items


ITEM = "{item}"


def read_items(content: bytes) -> list[Item]:
    """The items of a file: a JSON list, or JSON line by line. A line that is not JSON is an item nobody can use.

    Raises ValueError where it begins as a list and is none.
    """
    text = content.decode(errors="replace").removeprefix("\ufeff")
    if text.lstrip().startswith("["):
        try:
            return [Item(value) for value in msgspec.json.decode(text, type=list[Any])]
        except msgspec.DecodeError as error:
            if "\n" not in text.strip():
                raise ValueError(str(error)) from error
            # A file of lines that are lists themselves begins with a bracket as well.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    items = [_item_of(number, line) for number, line in lines]
    if items and all(item.problem for item in items):
        raise ValueError("it is neither a JSON list nor a line of JSON an item")
    return items


def _item_of(number: int, line: str) -> Item:
    try:
        return Item(msgspec.json.decode(line))
    except msgspec.DecodeError as error:
        return Item(line.strip()[:MAX_PROBLEM_CHARACTERS], f"line {number} is not JSON: {error}")


def refused_items(profile: Profile, order: DelegateEach, items: Sequence[Item]) -> dict[str, str]:
    """The items that no thread is opened for, by their number, and why."""
    found = {}
    for number, item in enumerate(items):
        if problem := item.problem or _item_problem(profile, order, item.value, number):
            found[str(number)] = problem[:MAX_PROBLEM_CHARACTERS]
    return found


def _item_problem(profile: Profile, order: DelegateEach, item: Any, number: int) -> str:
    contract = profile.contracts[order.specialist]
    if _has_input(contract, order) and not order.input_field and not isinstance(item, dict):
        return f"the item is not an object, and the call names no input_field: {_text_of(item)[:100]}"
    brief = brief_of(profile, order, item, number)
    if contract.input_schema is not None and (problem := problems_with(brief.input, contract.input_schema)):
        return f"input for {contract.name}: {problem}"
    size_bytes = len(msgspec.json.encode(brief))
    if size_bytes > MAX_BRIEF_BYTES:
        return f"its brief has {size_bytes} bytes, more than {MAX_BRIEF_BYTES}: give the path of a file instead"
    return ""


def brief_of(profile: Profile, order: DelegateEach, item: Any, number: int) -> Brief:
    """What is asked of the thread for one item."""
    given = None
    if _has_input(profile.contracts.get(order.specialist), order):
        given = {**(order.input or {}), **({order.input_field: item} if order.input_field else item)}
    return Brief(
        objective=order.objective.replace(ITEM, _text_of(item)),
        input=given,
        expected_output=order.expected_output,
        guidance=order.guidance,
        boundaries=order.boundaries,
        effort=order.effort,
        files=order.files,
        label=f"{order.label or order.specialist} {number + 1}",
        deadline_s=profile.delegation_deadline_s if order.deadline_s is None else order.deadline_s,
    )


def _has_input(contract: Contract | None, order: DelegateEach) -> bool:
    typed = contract is not None and contract.input_schema is not None
    return typed or bool(order.input_field) or order.input is not None


def _text_of(item: Any) -> str:
    return item if isinstance(item, str) else msgspec.json.encode(item).decode()


# What became of them


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the file that a fan-out ends with."""

    index: int
    """The number of the item, from 0."""
    item: Any
    status: Status
    code: str = ""
    summary: str = ""
    result: dict[str, Any] | None = None
    files: tuple[str, ...] = ()
    thread: str
    """The one that gave this answer; empty where none was opened."""
    attempts: int
    """How many threads the item has had."""


def lines(fan: FanOut, items: Sequence[Any]) -> Iterator[bytes]:
    """A line for each item, in the order of the items."""
    for number, item in enumerate(items):
        answer = fan.answers[number]
        outcome = answer.outcome
        line = Line(
            index=number,
            item=item,
            status=outcome.status,
            code=outcome.code,
            summary=outcome.summary,
            result=outcome.result,
            files=tuple(file.path for file in outcome.files),
            thread=answer.thread,
            attempts=answer.attempts,
        )
        yield msgspec.json.encode(line) + b"\n"


def summary(fan: FanOut, output: FileRef | None, problem: str = "") -> str:
    """What the model is told in place of the replies."""
    counts = Counter(answer.outcome.status for answer in fan.answers.values())
    unwell = [number for number in sorted(fan.answers) if fan.answers[number].outcome.status not in ("ok", "partial")]
    told: dict[str, Any] = {
        "items": fan.items,
        "replies": dict(sorted(counts.items())),
        "threads": sum(answer.attempts for answer in fan.answers.values()),
    }
    if output is not None:
        told["output"] = {"path": output.path, "version": output.version, "size_bytes": output.size_bytes}
    if problem:
        told["output_problem"] = problem
    if unwell:
        told["first_that_failed"] = [_told(number, fan.answers[number]) for number in unwell[:FAILURES_SHOWN]]
    return msgspec.json.encode(told).decode()


def _told(number: int, answer: Answer) -> dict[str, Any]:
    outcome = answer.outcome
    said = " ".join(outcome.summary.split())[:200]
    return {"index": number, "thread": answer.thread, "status": outcome.status, "summary": said}
