"""Tensors between the front and a model host, of which the front believes nothing."""

import errno
import os
from typing import Any

import numpy as np
import pytest

from model_service.serving.model_hosts.memory import START, BadDescription, SharedMemory

LIMIT = 1 << 20


def other_side(memory: SharedMemory) -> SharedMemory:
    return SharedMemory(os.dup(memory.descriptor), LIMIT)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asarray(7, np.int64),
        np.zeros((0, 4), np.float64),
        np.asarray([True, False]),
        np.arange(4, dtype=np.float16)[::2],
        np.arange(100_000, dtype=np.uint8),
        np.asarray([["a", "ü"], ["", "\n"]], object),
        np.asarray(["text", "t"]),
    ],
)
def test_an_array_arrives_as_it_was(array: Any) -> None:
    memory = SharedMemory.create(LIMIT)
    described, end = memory.put([{"x": array}])
    (found,) = other_side(memory).take(described, copy=True).values()
    assert found.shape == array.shape
    assert found.tolist() == array.tolist()
    behind, _ = memory.put([{"y": array}], end)
    assert other_side(memory).take(behind, copy=True)["y"].tolist() == array.tolist()
    assert other_side(memory).take(described, copy=True)["x"].tolist() == array.tolist()


def test_requests_arrive_as_one_batch() -> None:
    memory = SharedMemory.create(LIMIT)
    parts: list[Any] = [{"x": np.full((rows, 2), rows, np.int32)} for rows in (1, 2)]
    described, _ = memory.put(parts)
    assert other_side(memory).take(described, copy=True)["x"].tolist() == [[1, 1], [2, 2], [2, 2]]


def test_nothing_larger_than_the_limit_is_put() -> None:
    with pytest.raises(MemoryError):
        SharedMemory.create(LIMIT).put([{"x": np.zeros(LIMIT, np.uint8)}])


@pytest.mark.parametrize(
    "described",
    [
        None,
        [None],
        [["x", "float32", [2], START]],
        [["x", "object", [2], START, 16]],
        [["x", "float32", [-2], START, 8]],
        [["x", "float32", [2, 2], START, 8]],
        [["x", "float32", [True], START, 4]],
        [["x", "float32", [2], 0, 8]],
        [["x", "float32", [2], START + 1, 8]],
        [["x", "float32", [1 << 40], START, 4 << 40]],
        [["x", "float32", [LIMIT // 4], START, LIMIT]],
        [["x", "float32", [1] * 40, START, 4]],
        [["x", "text", [2], START, 8]],
        [[1, "float32", [2], START, 8]],
    ],
)
def test_a_description_of_what_is_not_there_is_refused(described: Any) -> None:
    with pytest.raises(BadDescription):
        SharedMemory.create(LIMIT).take(described, copy=True)


def test_bools_are_bools() -> None:
    memory = SharedMemory.create(LIMIT)
    memory.put([{"x": np.asarray([2, 1], np.uint8)}])
    with pytest.raises(BadDescription):
        memory.take([["x", "bool", [2], START, 2]], copy=True)


def test_the_other_side_cannot_shrink_it() -> None:
    memory = SharedMemory.create(LIMIT)
    with pytest.raises(OSError, match="not permitted") as refused:
        os.ftruncate(os.dup(memory.descriptor), 0)
    assert refused.value.errno == errno.EPERM
