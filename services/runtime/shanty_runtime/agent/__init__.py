"""One agent: what it is, what its model is shown, how its tools are called. Knows nothing of a bus."""

from shanty_runtime.agent.handler import Context, Handler, handler_from
from shanty_runtime.agent.profile import Contract, HirePolicy, Profile

__all__ = ["Context", "Contract", "Handler", "HirePolicy", "Profile", "handler_from"]
