"""What a client sends is what the model gets, or it is refused: never another number."""

import resource
from typing import Any

import numpy as np
import pytest

from exporters.base import TensorSpec
from model_service.errors import InvalidField, InvalidJSON
from model_service.serving.protocols import tensors


def named(values: Any, dtype: str, shape: tuple[int | str, ...] = ("n",)) -> Any:
    return tensors.named((TensorSpec("x", dtype, shape),), values)["x"]


def sent(values: Any, dtype: str, shape: tuple[int | str, ...] = ("n",)) -> Any:
    """As JSON."""
    return named(tensors.load(tensors.dump({"inputs": values}))["inputs"], dtype, shape)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("uint8", [300, -1]),
        ("uint8", [-1]),
        ("uint8", [256]),
        ("int8", [200]),
        ("int8", [-129]),
        ("int16", [40_000]),
        ("int32", [2**40]),
        ("int64", [2**63]),
        ("int64", [1.5]),
        ("int64", [1.0, 2**63]),
        ("int64", [1e30]),
        ("uint8", [-1.0]),
        ("bool", [7]),
        ("bool", [-1]),
        ("bool", [0.5]),
        ("bool", [1.0, "a"]),
        ("float32", [1e300]),
        ("float32", [0.0, -1e300]),
        ("float32", ["1.5"]),
        ("float32", [None]),
        ("float32", [[1.0]]),
        ("float16", [70_000]),
        ("float16", [70_000.0]),
        ("float64", [{}]),
        ("complex64", [1.0]),
    ],
)
def test_a_number_that_does_not_fit_is_refused(dtype: str, values: list[Any]) -> None:
    with pytest.raises(InvalidField) as refusal:
        sent(values, dtype)
    assert [each["field"] for each in refusal.value.details["fields"]] == ["inputs.x"]
    assert dtype in refusal.value.message or "[1, 1]" in refusal.value.message


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("uint8", [0, 255]),
        ("int8", [-128, 127]),
        ("int16", [-(2**15), 2**15 - 1]),
        ("int32", [-(2**31), 2**31 - 1]),
        ("int64", [-(2**63), 2**63 - 1]),
        ("uint64", [0, 2**64 - 1]),
        ("bool", [0, 1]),
        ("bool", [True, False]),
        ("float32", [1, -2.5, 3e38]),
        ("float32", [True, 0.5]),
        ("float16", [65_504]),
        ("float64", [1e300, 2**60]),
    ],
)
def test_a_number_that_fits_is_taken(dtype: str, values: list[Any]) -> None:
    tensor = sent(values, dtype)
    assert tensor.dtype == dtype
    assert np.array_equal(tensor, np.asarray(values, dtype=dtype))


def test_a_fraction_is_rounded_to_the_tensors_precision() -> None:
    assert sent([0.1], "float32")[0] == np.float32(0.1)


@pytest.mark.parametrize(
    ("shape", "values"),
    [
        ((), 1.5),
        ((1,), [1.5]),
        (("a", 2, 3), [[[0, 1, 2], [3, 4, 5]]]),
        (("a", 2, "b"), [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]),
    ],
)
def test_nested_lists_have_the_shape_they_show(shape: tuple[int | str, ...], values: Any) -> None:
    tensor = sent(values, "float32", shape)
    assert tensor.shape == np.shape(values)
    assert tensor.tolist() == values


@pytest.mark.parametrize(
    "values",
    [
        1,
        "text",
        None,
        [],
        [1, 2],
        [[]],
        [[], []],
        [[1], [2]],
        [[1, 2, 3]],
        [[1, 2], [3]],
        [[1, 2], 3],
        [3, [1, 2]],
        [[1, 2], {"a": 1}],
        [[[1, 2]]],
        [[1, [2]]],
        ["ab"],
    ],
)
def test_another_shape_is_refused(values: Any) -> None:
    with pytest.raises(InvalidField) as refusal:
        sent(values, "float32", ("n", 2))
    assert [each["field"] for each in refusal.value.details["fields"]] == ["inputs.x"]


def test_texts_do_not_grow() -> None:
    """numpy would make each as wide as the longest: 1.6 GB here."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InvalidField):
        named(["a" * 20_000, *[""] * 20_000], "float32")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_not_finite_may_be_sent(dtype: str) -> None:
    array = np.asarray([np.inf, -np.inf, np.nan, 1.0], dtype=dtype)
    assert np.array_equal(named(array, "float32"), array, equal_nan=True)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.asarray([300], dtype=np.uint16), "uint8"),
        (np.asarray([2**63], dtype=np.uint64), "int64"),
        (np.asarray([1e300]), "float32"),
        (np.asarray([7], dtype=np.uint8).view(bool), "bool"),
        (np.asarray([7], dtype=np.uint8).view(bool), "float32"),
        (np.asarray([1.5]), "int32"),
        (np.asarray([np.nan]), "int32"),
        (np.asarray([np.inf]), "int32"),
        (np.asarray([1e30]), "int32"),
        (np.asarray(["1"]), "float32"),
        (np.asarray([1], "datetime64[s]"), "int64"),
        (np.zeros(0, np.float32), "float32"),
        (np.zeros((1, 1), np.float32), "float32"),
        (np.asarray([1.0]), "tensor(string)"),
    ],
)
def test_an_array_of_another_type_must_fit_too(array: Any, dtype: str) -> None:
    with pytest.raises(InvalidField):
        named(array, dtype)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_whole_floats_are_integers(dtype: str) -> None:
    for given in ([1.0, 2.0, 3], np.asarray([1.0, 2.0, 3.0]), np.asarray([1, 2, 3], np.float32)):
        tensor = named(given, dtype)
        assert (tensor.tolist(), str(tensor.dtype)) == ([1, 2, 3], dtype)


def test_inputs_of_one_batch_have_equally_many_rows() -> None:
    specs = (
        TensorSpec("a", "int64", ("batch", 2)),
        TensorSpec("b", "float32", ("batch", "length")),
        TensorSpec("c", "float32", ("others", "length")),
        TensorSpec("d", "float32", ("dim_0",)),
        TensorSpec("e", "float32", ("dim_0",)),
    )
    right = {"a": [[1, 2]] * 3, "b": [[1.0]] * 3, "c": [[1.0]] * 5, "d": [1.0], "e": [1.0, 2.0]}
    assert tensors.named(specs, right)["c"].shape == (5, 1)
    for wrong, field in (({"b": [[1.0]]}, "inputs.b"), ({"c": [[1.0, 2.0]]}, "inputs.c")):
        with pytest.raises(InvalidField, match="on axis") as refusal:
            tensors.named(specs, right | wrong)
        assert [each["field"] for each in refusal.value.details["fields"]] == [field]


def test_an_array_that_is_right_is_not_copied() -> None:
    array = np.ones(4, np.float32)
    assert named(array, "float32") is array


@pytest.mark.parametrize("order", ["fortran", "unaligned", "big endian", "int32"])
def test_an_array_that_the_model_could_not_read_is_copied(order: str) -> None:
    expected = np.arange(6).reshape(2, 3).astype(np.float32)
    unaligned = np.frombuffer(b"x" + expected.tobytes(), np.float32, offset=1).reshape(2, 3)
    array = {
        "fortran": np.asfortranarray(expected),
        "unaligned": unaligned,
        "big endian": expected.astype(">f4"),
        "int32": expected.astype(np.int32),
    }[order]
    tensor = named(array, "float32", ("n", 3))
    assert tensor.flags.c_contiguous
    assert tensor.flags.aligned
    assert tensor.dtype == np.float32
    assert np.array_equal(tensor, expected)


def test_inputs_are_called_by_name_where_there_are_several() -> None:
    specs = (TensorSpec("a", "int64", ("n",)), TensorSpec("b", "int64", ("n",)))
    assert set(tensors.named(specs, {"a": [1], "b": [2]})) == {"a", "b"}
    for wrong in ([1], {"a": [1]}, {"a": [1], "b": [1], "c": [1]}):
        with pytest.raises(InvalidField):
            tensors.named(specs, wrong)


def test_json_of_too_many_lists() -> None:
    """They would take 160 MB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InvalidJSON):
        tensors.load(b'{"inputs": [' + b"[]," * 2_500_000 + b"[]]}")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"a": [NaN, Infinity]}',
        b'{"a": [NaN, 1e999]}',
        b"\xff",
        b'[NaN, "\\ud800"]',
        b'{"\\udfff": NaN}',
        b'[NaN, "\xed\xa0\x80"]',
    ],
)
def test_what_is_no_json(text: bytes) -> None:
    with pytest.raises(InvalidJSON):
        tensors.load(text)
