from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.latency import LATENCY_BOUNDS_MS, LATENCY_BUCKETS, bucket_of, percentile_ms


def histogram(*latencies_ms: float) -> list[int]:
    counts = [0] * LATENCY_BUCKETS
    for latency_ms in latencies_ms:
        counts[bucket_of(latency_ms)] += 1
    return counts


def test_the_buckets_go_from_a_tenth_of_a_millisecond_to_a_minute() -> None:
    assert (LATENCY_BOUNDS_MS[0], LATENCY_BOUNDS_MS[-1]) == (0.1, 60_000)
    steps = [upper / lower for lower, upper in pairwise(LATENCY_BOUNDS_MS)]
    assert all(1.7 < step < 1.9 for step in steps)


def test_a_latency_at_a_bound_belongs_below_it() -> None:
    assert bucket_of(1.0) == LATENCY_BOUNDS_MS.index(1.0)
    assert bucket_of(1.01) == LATENCY_BOUNDS_MS.index(1.8)
    assert bucket_of(0.0) == 0
    assert bucket_of(1e9) == LATENCY_BUCKETS - 1


def test_nothing_has_no_percentile() -> None:
    assert percentile_ms([0] * LATENCY_BUCKETS, 0.5) is None


def test_a_percentile_is_interpolated_within_its_bucket() -> None:
    counts = histogram(*[5.0] * 10)  # from 3.2 to 5.6 ms
    assert percentile_ms(counts, 0.5) == pytest.approx(4.4)
    assert percentile_ms(counts, 1.0) == pytest.approx(5.6)
    assert percentile_ms(histogram(120_000.0), 0.5) == 60_000


@given(st.lists(st.floats(0.001, 50_000), min_size=1, max_size=60), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_lies_in_the_bucket_of_the_true_one(latencies_ms: list[float], share: float) -> None:
    ordered = sorted(latencies_ms)
    true = next(each for rank, each in enumerate(ordered, start=1) if rank >= share * len(ordered))
    found = percentile_ms(histogram(*latencies_ms), share)
    assert found is not None
    bucket = bucket_of(true)
    assert (LATENCY_BOUNDS_MS[bucket - 1] if bucket else 0) <= found <= LATENCY_BOUNDS_MS[bucket]
