"""For tests of teams, tools and services. Nothing here is imported by what runs in production.

bus       a real nats-server for each test, and a bus with its layout
claude    a scripted Claude behind real HTTP; imported by its own name: `from shanty_runtime.testing import claude`
"""

from shanty_runtime.testing.bus import (
    AGENTS,
    DEADLINE_S,
    SHORT_ACK_WAIT_S,
    SHORT_LEASE_S,
    EmbeddedCluster,
    bus_settings,
    nats_bus,
    nats_server,
    until,
)

__all__ = [
    "AGENTS",
    "DEADLINE_S",
    "SHORT_ACK_WAIT_S",
    "SHORT_LEASE_S",
    "EmbeddedCluster",
    "bus_settings",
    "nats_bus",
    "nats_server",
    "until",
]
