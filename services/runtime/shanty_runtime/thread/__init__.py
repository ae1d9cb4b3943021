"""The engine: a thread is a durable actor.

`state` folds a journal into what is known, `decide` says what comes next, `activation` does it under a lease, and
`worker` gets the mail. The first two are pure: they need no bus, and importing this package brings none.
"""

from shanty_runtime.thread.decide import decide
from shanty_runtime.thread.fold import apply, fold
from shanty_runtime.thread.state import State

__all__ = ["State", "apply", "decide", "fold"]
