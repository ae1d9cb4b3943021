"""Working on threads: a `Worker` takes an agent's mail, and an `Activation` has one thread until that rests.

What comes next is decided in `shanty_runtime.thread`, which is pure; here it is done: leases, model and tool calls,
entries of the journal. `HeldThread` is the pen that writes it.
"""

from shanty_runtime.worker.worker import Worker

__all__ = ["Worker"]
