"""An entry as an audit looks at it: where it stands, what it says, and when it was stored."""

from __future__ import annotations

import msgspec

from shanty_protocol import Entry, EntryAddress
from simulation.server import Message


class Kept(msgspec.Struct, frozen=True):
    address: EntryAddress
    entry: Entry
    message: Message
