"""What a durable timer sends to its owner when it is due."""

from __future__ import annotations

import msgspec


class WaitExpired(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="wait.expired"):
    """A `wait_for_replies` call has waited as long as it was told to."""

    call_id: str


class DelegationExpired(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="delegation.expired"):
    """A thread has not replied by its deadline."""

    thread: str


Timer = WaitExpired | DelegationExpired
