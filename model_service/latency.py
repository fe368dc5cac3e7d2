"""Latency histograms: their buckets, and percentiles computed from them.

A histogram has one count for each of ``LATENCY_BOUNDS_MS``, of latencies up to it and above the previous
one, and a last count of latencies above all bounds.
"""

from bisect import bisect_left
from collections.abc import Sequence

# Four per decade, in milliseconds. Stored counts are by position, so a change here changes their meaning.
LATENCY_BOUNDS_MS = (
    *(0.1, 0.18, 0.32, 0.56),
    *(1.0, 1.8, 3.2, 5.6),
    *(10.0, 18.0, 32.0, 56.0),
    *(100.0, 180.0, 320.0, 560.0),
    *(1_000.0, 1_800.0, 3_200.0, 5_600.0),
    *(10_000.0, 18_000.0, 32_000.0, 60_000.0),
)
LATENCY_BUCKETS = len(LATENCY_BOUNDS_MS) + 1


def bucket_of(milliseconds: float) -> int:
    return bisect_left(LATENCY_BOUNDS_MS, milliseconds)


def percentile_ms(histogram: Sequence[int], share: float) -> float | None:
    """Return the latency that a ``share`` (0 to 1) did not exceed; None for an empty histogram.

    Latencies are assumed to be evenly distributed in their bucket, as in Prometheus' ``histogram_quantile``,
    so the error is less than a bucket's width. Above the last bound, the result is that bound.
    """
    total = sum(histogram)
    if not total:
        return None
    rank, below = share * total, 0
    for index, count in enumerate(histogram[:-1]):
        if count and below + count >= rank:
            low = LATENCY_BOUNDS_MS[index - 1] if index else 0.0
            return low + (LATENCY_BOUNDS_MS[index] - low) * max(0.0, rank - below) / count
        below += count
    return LATENCY_BOUNDS_MS[-1]
