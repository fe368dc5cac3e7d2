"""Counts of wrong keys by address."""

import pytest

from model_service.errors import RateLimited
from model_service.wrong_keys import _MOST_ADDRESSES, WrongKeys


def test_a_window_ends() -> None:
    moment = 0.0
    keys = WrongKeys("2 per minute", 2, 60, lambda: moment)
    for _ in range(2):
        keys.note("192.0.2.1")
    moment = 45.5
    with pytest.raises(RateLimited) as caught:
        keys.note("192.0.2.1")
    assert caught.value.retry_after_s == 15
    keys.note("192.0.2.2")
    moment = 60.0
    keys.note("192.0.2.1")


def test_addresses_of_one_ipv6_network_are_one_client() -> None:
    keys = WrongKeys("1 per minute", 1, 60)
    keys.note("2001:db8::1")
    with pytest.raises(RateLimited):
        keys.note("2001:db8::ffff")
    keys.note("2001:db8:1::1")


def test_the_table_is_bounded() -> None:
    keys = WrongKeys("1 per minute", 1, 60)
    for number in range(3 * _MOST_ADDRESSES):
        keys.note(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(keys) == _MOST_ADDRESSES
