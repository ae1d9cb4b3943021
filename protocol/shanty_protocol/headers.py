"""Names of the headers a message carries."""

from __future__ import annotations

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
KIND = "Shanty-Kind"
"""The kind that the body says too, so that a filter need not read bodies."""
VERSION = "Shanty-Version"
"""Major version of the protocol the author speaks; absent means 1."""
CHAIN = "Shanty-Chain"
"""Digests of the entry and of the one before it in its journal; see `chain`."""

JOURNAL_LENGTH = "Shanty-Journal-Length"
"""Of a lease that was given back: how many entries the journal has. Absent where whoever had it could not be sure."""
ABANDONED = "Shanty-Abandoned"
"""Of a lease that was given back: somebody had vanished who had it earlier, and no entry says so yet. Or an entry is
on its way that the length does not count. Whoever has it next begins with an entry that takes the thread over."""
