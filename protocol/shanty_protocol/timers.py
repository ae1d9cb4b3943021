"""What a durable timer sends to its owner when it is due.

A thread has one timer: its next deadline. The timer only wakes the thread; the thread's journal says what it was
waiting for and what is late.
"""

from __future__ import annotations

import msgspec

DUE = "due"
"""The id of that one timer."""


class ThreadDue(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="thread.due"):
    """The thread's next deadline has come."""

    at_ms: int
    """The deadline itself. A receiver whose clock is behind takes this for the time."""


Timer = ThreadDue
"""A union of one so far: new kinds of timer join it here."""
