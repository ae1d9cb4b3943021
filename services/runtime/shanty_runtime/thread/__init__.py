"""A thread is a durable actor: what its journal amounts to, and what it does next.

`fold` takes the entries of a journal into a `State`; `decide` says from that, and from the mail that is waiting, what
comes next. Nothing here knows the time, a bus or a model: `shanty_runtime.worker` does what is decided.
"""

from shanty_runtime.thread.decide import decide
from shanty_runtime.thread.fold import apply, fold
from shanty_runtime.thread.state import State

__all__ = ["State", "apply", "decide", "fold"]
