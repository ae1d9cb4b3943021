"""Everything that knows NATS. What stands here is the whole of it for the rest of the runtime.

connection   one hardened connection                 jetstream   requests to JetStream, and what they answer
login        credentials, tokens, certificates       nkeys       key pairs of NATS
journals     entries, written once and read back     pull        an agent's mail and timers, kept while worked on
leases       who works on which thread               timers      messages that come later
files        workspace files and their contents      memory      documents that outlive runs
feed         entries as they are stored              live        what happens right now, not kept
effects      calls that the tool gateway makes
roster       which agents are up                     queues      how much waits for each agent, and how long
layout       streams, buckets, consumers             durability  whether an ack means "on the disk"
server       a nats-server of our own                clock       what time it is for all who use the bus
pressure     what waits because the bus is full
"""

from shanty_runtime.bus.bus import Bus
from shanty_runtime.bus.connection import Listening
from shanty_runtime.bus.durability import Durability, durability
from shanty_runtime.bus.effects import Effects, Serving
from shanty_runtime.bus.feed import Feed
from shanty_runtime.bus.files import Files
from shanty_runtime.bus.journals import JournalPart, Journals, Placed, Stored, Written, written
from shanty_runtime.bus.layout import Change, check_layout, create_layout
from shanty_runtime.bus.leases import Busy, Lease, Leases
from shanty_runtime.bus.live import Live
from shanty_runtime.bus.memory import Documents
from shanty_runtime.bus.pull import Delivery, Pull
from shanty_runtime.bus.queues import watch_queues
from shanty_runtime.bus.roster import Roster
from shanty_runtime.bus.server import EmbeddedServer
from shanty_runtime.bus.settings import BusSettings, login_of
from shanty_runtime.bus.timers import Timers

__all__ = [
    "Bus",
    "BusSettings",
    "Busy",
    "Change",
    "Delivery",
    "Documents",
    "Durability",
    "Effects",
    "EmbeddedServer",
    "Feed",
    "Files",
    "JournalPart",
    "Journals",
    "Lease",
    "Leases",
    "Listening",
    "Live",
    "Placed",
    "Pull",
    "Roster",
    "Serving",
    "Stored",
    "Timers",
    "Written",
    "check_layout",
    "create_layout",
    "durability",
    "login_of",
    "watch_queues",
    "written",
]
