"""One journal: whether its places are without a gap, and each entry follows the one before it.

Entries come in the order they were stored, which need not be that of their places: an author may have several on
the way at once. What is ahead of its turn waits here.
"""

from __future__ import annotations

import msgspec

from shanty_protocol import Entry, EntryAddress, chain
from shanty_protocol.ids import LOG, OPERATORS
from shanty_runtime.bus.jetstream import RawMessage
from shanty_runtime.verify.findings import Report


class Placed(msgspec.Struct, frozen=True):
    """An entry with its place and its link; no entry where it cannot be read."""

    address: EntryAddress
    at: tuple[str, int]
    entry: Entry | None
    link: chain.Link | None
    unchained: bool
    """It carries none, nor anything that was one."""
    message: RawMessage | None
    """Kept where there is no link: what comes next names a digest of all of it."""


class Journal:
    def __init__(self, report: Report) -> None:
        self._report = report
        self.next_n = 0
        self._own: str | None = chain.NOTHING_BEFORE
        """What the next entry has to name; none where that cannot be known."""
        self._unchained_from: int | None = None
        self._fence = 0
        self._chained_under: set[int] = set()
        self._unchained_under: dict[int, tuple[str, int]] = {}
        """By lease, the first entry that is not chained."""
        self._ahead: dict[int, Placed] = {}

    def take(self, placed: Placed) -> list[Placed]:
        """Take an entry in; those whose turn has come, in the order of their places."""
        n = placed.address.n
        if n < self.next_n or n in self._ahead:
            self._report.wrong(placed.at, "place", f"place {n} is taken twice", "one entry at each place")
            return []
        self._ahead[n] = placed
        ready: list[Placed] = []
        while (following := self._ahead.pop(self.next_n, None)) is not None:
            self._follow(following)
            self.next_n += 1
            ready.append(following)
        return ready

    def end(self) -> None:
        """Nothing more comes."""
        if self._ahead:
            first = self._ahead[min(self._ahead)]
            told = f"place {self.next_n} before it is empty"
            if self.next_n == 0:
                told = "the beginning of its journal is not stored: too old for the stream, or taken away"
            self._report.wrong(first.at, "place", told, "a journal without a gap")

    def _follow(self, placed: Placed) -> None:
        fence = 0 if placed.entry is None else placed.entry.fence
        if placed.link is not None and self._own is not None and placed.link.before != self._own:
            self._broken(placed, fence)
        self._check_version(placed, fence)
        self._fence = max(self._fence, fence)
        if placed.link is not None:
            self._own, self._unchained_from = placed.link.own, None
        elif placed.message is not None and self._own is not None:
            message = placed.message
            self._own = chain.digest_of_entry(self._own, message.subject, message.headers, message.data)
            self._unchained_from = placed.address.n if self._unchained_from is None else self._unchained_from
        else:
            self._own = None

    def _check_version(self, placed: Placed, fence: int) -> None:
        """A lease is held by one process, which chains all it writes or, before 0.2.0, nothing. What is due carries
        the lease of whoever made it due, and may be written by another."""
        if not fence or placed.address.to not in (LOG, OPERATORS):
            return
        if placed.link is not None:
            self._chained_under.add(fence)
        elif placed.unchained:
            self._unchained_under.setdefault(fence, placed.at)
        if fence in self._chained_under and (at := self._unchained_under.pop(fence, None)) is not None:
            told = f"it is not chained, and others that were written under lease {fence} are"
            self._report.wrong(at, "chain", told, "a chain header")

    def _broken(self, placed: Placed, fence: int) -> None:
        n = placed.address.n
        if 0 < fence < self._fence:
            told = f"written by a worker that had lost the thread: it follows a place {n - 1} that was never stored"
            self._report.note(placed.at, "chain", told)
            return
        assert placed.link is not None
        before = f"place {n - 1}" if n else "the beginning"
        suspects = (
            "" if self._unchained_from is None else f"; places {self._unchained_from} to {n - 1} are not chained"
        )
        self._report.wrong(
            placed.at,
            "chain",
            f"it follows {placed.link.before}, which is not {before}{suspects}",
            f"{self._own}",
        )
