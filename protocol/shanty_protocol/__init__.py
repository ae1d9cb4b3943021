"""The wire contract of Shanty. Depends on msgspec alone and does no I/O."""

from shanty_protocol.cards import AgentCard, AgentDraining, Card
from shanty_protocol.codec import PROTOCOL_VERSION
from shanty_protocol.entries import (
    AddressedEntry,
    DelegationSent,
    Entry,
    Fact,
    Mail,
    MailReceived,
    MailRejected,
    MessageSent,
    ModelReplied,
    ReplyReceived,
    ThreadFailed,
    ThreadOpened,
    ThreadReplied,
    ThreadTakenOver,
    TimerFired,
    ToolCalled,
    ToolReturned,
)
from shanty_protocol.errors import CODES, ProtocolError
from shanty_protocol.live import LiveEvent, StepStarted, TextStreamed
from shanty_protocol.parts import Brief, Effort, FileRef, FileVersion, Outcome, Status, Usage
from shanty_protocol.subjects import (
    Address,
    ChunkAddress,
    EntryAddress,
    FileAddress,
    LiveAddress,
    TimerAddress,
)
from shanty_protocol.timers import ThreadDue, Timer

__all__ = [
    "CODES",
    "PROTOCOL_VERSION",
    "Address",
    "AddressedEntry",
    "AgentCard",
    "AgentDraining",
    "Brief",
    "Card",
    "ChunkAddress",
    "DelegationSent",
    "Effort",
    "Entry",
    "EntryAddress",
    "Fact",
    "FileAddress",
    "FileRef",
    "FileVersion",
    "LiveAddress",
    "LiveEvent",
    "Mail",
    "MailReceived",
    "MailRejected",
    "MessageSent",
    "ModelReplied",
    "Outcome",
    "ProtocolError",
    "ReplyReceived",
    "Status",
    "StepStarted",
    "TextStreamed",
    "ThreadDue",
    "ThreadFailed",
    "ThreadOpened",
    "ThreadReplied",
    "ThreadTakenOver",
    "Timer",
    "TimerAddress",
    "TimerFired",
    "ToolCalled",
    "ToolReturned",
    "Usage",
]
