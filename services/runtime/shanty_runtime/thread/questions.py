"""Questions: what a thread asks of its lead or of people, and what the threads it opened ask of it.

A question is known by its subject. Its answer is one more entry, from whom it was addressed to, and is taken only
while the question is open. A lead that passes a question on asks people a question of its own: their answer comes to
the lead, and goes down from there as the lead's answer, so that nobody is ever answered by somebody it did not ask.
"""

from __future__ import annotations

import msgspec

from shanty_protocol import EntryAddress, QuestionAnswered, QuestionAsked, subjects
from shanty_protocol.ids import OPERATORS
from shanty_runtime.models.base import marked_as_data
from shanty_runtime.thread.state import Asking, Question, State

NOT_ANSWERED = "Nobody answered in time. Go on with what you know, and say in your result what you had to assume."
VOID = "This was not answered: you were asked to stop while you waited."


def take_own(state: State, address: EntryAddress, entry: QuestionAsked) -> None:
    """This thread has asked. It goes on at once where it passed a question on, and else when it has the answer."""
    state.sent_to[address.to, entry.to_thread] = address.subject
    state.asking[address.subject] = Asking(
        subject=address.subject,
        to=address.to,
        to_thread=entry.to_thread,
        call_id=entry.call_id,
        expires_at_ms=entry.expires_at_ms,
        on_behalf_of=entry.on_behalf_of,
    )
    if entry.on_behalf_of:
        passed_on = _by_subject(state, entry.on_behalf_of)
        if passed_on is not None:
            passed_on.passed_on = True
        told = {"passed_on": passed_on.id if passed_on else "", "answer": "goes to the specialist and to you"}
        state.calls[entry.call_id].settle(msgspec.json.encode(told).decode())


def take_own_answer(state: State, entry: QuestionAnswered) -> None:
    """This thread has answered one that was put to it."""
    question = _by_subject(state, entry.question)
    if question is not None:
        del state.questions[question.id]
    if entry.call_id:
        told = {"answered": question.id if question else "", "thread": entry.to_thread}
        state.calls[entry.call_id].settle(msgspec.json.encode(told).decode())


def take_asked(state: State, subject: str, entry: QuestionAsked) -> str:
    """A thread this one has opened asks. Returns what the model is told of it, unless a wait will end with it."""
    sender = subjects.parse_entry(subject)
    question = Question(
        id=f"q-{sender.thread}-{sender.n}",
        subject=subject,
        thread=sender.thread,
        specialist=sender.agent,
        name=state.children[sender.thread].name,
        text=entry.question,
        options=entry.options,
        expires_at_ms=entry.expires_at_ms,
    )
    state.questions[question.id] = question
    if state.waits:
        question.is_news = True
        return ""
    card = msgspec.json.encode(question.card).decode()
    return f"A specialist waits for your answer (answer_specialist):\n{marked_as_data('question', card)}"


def stale(state: State, address: EntryAddress, answer: QuestionAnswered) -> str:
    """Why this answers no open question of this thread; empty where it does."""
    asking = state.asking.get(answer.question)
    if asking is None:
        return f"{answer.question} is not open in thread {state.thread}"
    if asking.to == OPERATORS:
        asked = subjects.decision_address(subjects.parse_entry(answer.question)) == address
    else:
        asked = (asking.to, asking.to_thread) == (address.agent, address.thread)
    if not asked:
        return f"{answer.question} was not put to {address.agent}, thread {address.thread}"
    return f"{answer.question} had expired" if answer.at_ms >= asking.expires_at_ms else ""


def take_answer(state: State, answer: QuestionAnswered) -> tuple[Question | None, str]:
    """Take an answer in. Returns the question it goes on to, and what the model is told of that."""
    asking = state.asking.pop(answer.question)
    if not asking.on_behalf_of:
        told = {"answer": answer.answer, "answered_by": answer.person or asking.to}
        state.calls[asking.call_id].settle(msgspec.json.encode(told).decode())
        return None, ""
    question = _by_subject(state, asking.on_behalf_of)
    said = f"{answer.person or 'a person'} answered: {answer.answer}"
    if question is None:
        return None, f"To a question that nobody waits for any more {said}"
    return question, f"To {question.id}, which you passed on, {said}\nThread {question.thread} has the answer."


def expire(state: State, now_ms: int) -> None:
    """Give up the questions of this thread that nobody answered in time."""
    for asking in list(state.asking.values()):
        if asking.expires_at_ms <= now_ms:
            _close(state, asking, NOT_ANSWERED)


def void(state: State) -> None:
    """The thread is to stop, or has replied: it waits for nobody's answer any more."""
    for asking in list(state.asking.values()):
        _close(state, asking, VOID)


def forget_expired(state: State, now_ms: int) -> None:
    """Whoever asked this thread has given up by now."""
    for question in list(state.questions.values()):
        if question.expires_at_ms <= now_ms:
            _forget(state, question)


def forget_thread(state: State, thread: str) -> None:
    """A thread that has replied waits for no answer."""
    for question in list(state.questions.values()):
        if question.thread == thread:
            _forget(state, question)


def unanswered(state: State) -> list[Question]:
    """Those that wait for this thread itself, and not for people."""
    return [question for question in state.questions.values() if not question.passed_on]


def take_news(state: State) -> bool:
    """Whether there is one the model has not been shown; it is shown now."""
    fresh = [question for question in state.questions.values() if question.is_news]
    for question in fresh:
        question.is_news = False
    return bool(fresh)


def _forget(state: State, question: Question) -> None:
    del state.questions[question.id]
    for asking in list(state.asking.values()):
        if asking.on_behalf_of == question.subject:
            del state.asking[asking.subject]


def _close(state: State, asking: Asking, content: str) -> None:
    del state.asking[asking.subject]
    call = state.calls.get(asking.call_id)
    if not asking.on_behalf_of and call is not None and not call.settled:
        call.settle(content, "error")


def _by_subject(state: State, subject: str) -> Question | None:
    return next((each for each in state.questions.values() if each.subject == subject), None)
