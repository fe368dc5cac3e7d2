"""A histogram of latencies: its buckets, and the percentiles that can be read from it.

A histogram is one count for each of ``LATENCY_BOUNDS_MS``, of what took at most that long and longer than the
bound before, and a last one of what took longer than all of them.
"""

from bisect import bisect_left
from collections.abc import Sequence

# Four to a decade, in milliseconds. Stored counts are by position: changing these changes what they mean.
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
    """The latency that ``share`` of them (0 to 1) did not exceed; None of an empty histogram.

    Latencies are taken to lie evenly within their bucket, as Prometheus' ``histogram_quantile`` does, so it
    is off by less than a bucket's width. What is past the last bound is answered with that bound.
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
