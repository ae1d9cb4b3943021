"""When a rate rose above its baseline, by how much, and when it fell back."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .segments import Segment, downsampled, split_counts

MOST_BINS = 360


class Burst(msgspec.Struct, frozen=True, kw_only=True):
    """Positions of the first and behind the last bin, the counts in it, and the rates per bin."""

    start: int
    end: int
    count: float
    baseline: float
    rate: float

    @property
    def excess(self) -> float:
        return self.count - self.baseline * (self.end - self.start)

    @property
    def ratio(self) -> float:
        return self.rate / max(self.baseline, 1e-9)


def find_bursts(
    counts: Sequence[float], *, least_ratio: float = 3.0, least_excess: float = 8.0, penalty: float = 14.0
) -> tuple[float, list[Burst]]:
    """The baseline rate per bin, and every stretch well above it, in order of time."""
    coarse, factor = downsampled(counts, MOST_BINS)
    segments = split_counts(coarse, penalty=penalty)
    baseline = low_level(segments) / factor
    bursts = []
    for high in runs_above(segments, baseline * factor * least_ratio):
        start, end = high[0].start * factor, min(high[-1].end * factor, len(counts))
        start, end = trimmed(counts, start, end, baseline)
        count = sum(counts[start:end])
        burst = Burst(start=start, end=end, count=count, baseline=baseline, rate=count / max(end - start, 1))
        if burst.excess >= least_excess:
            bursts.append(burst)
    return baseline, bursts


def low_level(segments: Sequence[Segment]) -> float:
    """The level that a quarter of the time is at or below: an incident may last for most of the record."""
    total, reached = sum(each.length for each in segments), 0
    for segment in sorted(segments, key=lambda each: each.mean):
        reached += segment.length
        if reached >= total * 0.25:
            return segment.mean
    return 0.0


def runs_above(segments: Sequence[Segment], level: float) -> list[list[Segment]]:
    runs: list[list[Segment]] = []
    for segment in segments:
        if segment.mean > level and segment.mean > 0:
            if runs and runs[-1][-1].end == segment.start:
                runs[-1].append(segment)
            else:
                runs.append([segment])
    return runs


def trimmed(counts: Sequence[float], start: int, end: int, baseline: float) -> tuple[int, int]:
    """Quiet bins at both ends do not belong to a burst: the coarse bins are wider than the true onset."""
    quiet = baseline * 1.5
    while start < end - 1 and counts[start] <= quiet:
        start += 1
    while end > start + 1 and counts[end - 1] <= quiet:
        end -= 1
    return start, end
