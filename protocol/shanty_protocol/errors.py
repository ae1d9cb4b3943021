"""Errors that cross the wire: a code for programs, a sentence for people.

A code never changes its meaning and is never reused. New codes may appear: treat one you do not know as `failed`.
"""

from __future__ import annotations

MAX_DETAIL_LENGTH = 300

CODES: dict[str, str] = {
    "invalid_message": "the bytes are not a message of this protocol",
    "unknown_kind": "the message has a kind this version does not know",
    "unsupported_version": "the message was written by a newer major version of the protocol",
    "wrong_recipient": "the sender may not send this to that thread",
    "stale": "it answers something that is not open, or not any more",
    "out_of_order": "what it comes after did not come, and too much else of its sender waits for longer",
    "expired": "what its thread has done before is no longer stored",
    "invalid_input": "the delegation's input does not match the specialist's input schema",
    "invalid_output": "the result does not match the output schema",
    "handler_failed": "a specialist's Python handler raised an exception",
    "model_failed": "a model call failed for good",
    "model_refused": "the model declined",
    "spend_limit": "a spending cap of the model's provider was reached",
    "model_configuration": "the model cannot be called as it is configured",
    "not_hired": "the team's policy does not allow whom the thread was to be worked on by",
    "turn_limit": "the thread used all the turns it may take",
    "token_limit": "the tokens that may be used are used",
    "cost_limit": "the money that may be spent is spent",
    "cost_unknown": "money is limited, and the price of the model is not known",
    "model_call_limit": "the model calls that may be made are made",
    "tool_call_limit": "more tool calls were asked for than may be made",
    "time_limit": "the time the work may take is over",
    "crash_loop": "every worker that took the thread died",
    "cancelled": "the thread was asked to stop, and handed in what it had",
    "aborted": "the thread was stopped where it was",
    "not_satisfied": "the grader was not satisfied with the deliverable, and it was revised as often as it may be",
    "ungraded": "the deliverable was to be judged, and no grader could",
    "timed_out": "no reply arrived before the deadline",
    "unreachable": "no reply arrived before the deadline, and nobody had started on it",
}


class ProtocolError(ValueError):
    """What was received is not what this protocol allows. `code` is one of CODES."""

    def __init__(self, code: str, detail: str) -> None:
        assert code in CODES, f"{code} is not a code of this protocol"
        self.code = code
        # It quotes what was received, which may be a megabyte; a log line and a dead letter want less.
        self.detail = detail[:MAX_DETAIL_LENGTH]
        super().__init__(f"{CODES[code]}: {self.detail}")


class UnwritableMessage(ValueError):
    """A message has no JSON form. Not a ProtocolError: nothing was received, the fault is on this side."""

    def __init__(self, kind: str, reason: str) -> None:
        self.kind, self.reason = kind, reason
        super().__init__(f"{kind} cannot be written: {reason}")
