"""What several examples are made of."""

from __future__ import annotations

from shanty_protocol import FileRef, HiredSpecialist, Usage

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
BURSTS = FileRef(path="findings/bursts.json", version=2, digest=DIGEST, size_bytes=1843)
SPENT = Usage(input_tokens=1200, output_tokens=310, cache_read_tokens=5400, cache_write_tokens=900)

CERTIFICATES = HiredSpecialist(
    name="certificates",
    role="Reads certificates and says what is wrong with them.",
    instructions="You read certificates. Say who signed each, and until when it holds.",
    tools=("read_file", "search_files"),
    model="haiku",
)
