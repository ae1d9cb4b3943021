"""The chain of a journal: each entry carries a digest of itself and of the entry before it.

    Shanty-Chain: <before>-<own>            both of 32 hexadecimal digits
    Shanty-Chain: <before>-<own>-<seal>     where there is a trace; 16 digits more

`own` is the digest of the entry: what `before` is, its subject, its headers and its body. `before` is `own` of the
entry at the place before it, and 32 zeros at place 0. So whoever changes an entry, or puts another one in its place,
has to change every entry after it. The seal is of the trace context. That is no part of `own`, for two workers that
write the same entry to the same place write it in different traces.

An entry without the header has a digest all the same, so the next one can name it. Journals of 0.1.0 have none. Where
a link stands in another header, the header has lost its name: no version writes that.

It is a checksum and no signature: it shows what went wrong with what is stored, and who changes all of a journal from
some place on can make a chain that holds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from shanty_protocol.headers import CHAIN, TRACEPARENT, TRACESTATE

NOTHING_BEFORE = "0" * 32
"""What an entry at place 0 names as the one before it."""

_DIGITS, _SEAL_DIGITS = 32, 16
_LINK = re.compile(rf"([0-9a-f]{{{_DIGITS}}})-([0-9a-f]{{{_DIGITS}}})(?:-([0-9a-f]{{{_SEAL_DIGITS}}}))?")
_NOT_COVERED = frozenset((CHAIN, TRACEPARENT, TRACESTATE))
_BETWEEN_CLIENT_AND_SERVER = "Nats-"

Flaw = Literal["unchained", "misnamed", "malformed", "altered", "trace_altered"]
"""What can be wrong with an entry by itself: no chain header, one of another name, one that is none, other content,
another trace."""


class Link(msgspec.Struct, frozen=True):
    """What the header says."""

    before: str
    own: str
    seal: str = ""

    @property
    def header(self) -> str:
        return f"{self.before}-{self.own}-{self.seal}" if self.seal else f"{self.before}-{self.own}"


def digest_of_entry(before: str, subject: str, headers: Mapping[str, str], body: bytes) -> str:
    """`own` of an entry: the first 32 digits of SHA-256 over a line each for `before`, the subject and every header
    by name, then an empty line and the body. Left out are the chain itself, the trace, and what is named `Nats-`."""
    covered = [f"{name}: {headers[name]}" for name in sorted(filter(_is_covered, headers))]
    head = "\n".join((before, subject, *covered, "", ""))
    return hashlib.sha256(head.encode("utf-8", "surrogatepass") + body).hexdigest()[:_DIGITS]


def seal_of(own: str, headers: Mapping[str, str]) -> str:
    """The seal of a trace context; empty where there is none."""
    trace = [f"{name}: {headers[name]}" for name in (TRACEPARENT, TRACESTATE) if name in headers]
    if not trace:
        return ""
    return hashlib.sha256("\n".join([own, *trace]).encode("utf-8", "surrogatepass")).hexdigest()[:_SEAL_DIGITS]


def link_of(headers: Mapping[str, str]) -> Link | None:
    """The link an entry carries; none where it carries none, or something else."""
    found = _LINK.fullmatch(headers.get(CHAIN, ""))
    return None if found is None else Link(found[1], found[2], found[3] or "")


def own_of(before: str, subject: str, headers: Mapping[str, str], body: bytes) -> str:
    """What the next entry names as the one before it. `before` counts only where this entry does not say it."""
    link = link_of(headers)
    return digest_of_entry(before, subject, headers, body) if link is None else link.own


def flaw_of(subject: str, headers: Mapping[str, str], body: bytes) -> Flaw | None:
    """What is wrong with an entry by itself; whether it names the right entry before it is another question."""
    if CHAIN not in headers:
        return "misnamed" if _has_link_elsewhere(headers) else "unchained"
    link = link_of(headers)
    if link is None:
        return "malformed"
    if digest_of_entry(link.before, subject, headers, body) != link.own:
        return "altered"
    return "trace_altered" if seal_of(link.own, headers) != link.seal else None


def _has_link_elsewhere(headers: Mapping[str, str]) -> bool:
    """Whether what looks like a link stands where there should be none: a chain header whose name was changed, or the
    end of the line before it."""
    return any(_LINK.search(f"{name}: {headers[name]}") for name in headers if _is_covered(name))


def _is_covered(name: str) -> bool:
    return name not in _NOT_COVERED and not name.startswith(_BETWEEN_CLIENT_AND_SERVER)
