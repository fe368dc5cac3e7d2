"""What a client sends is what the model gets, or it is refused: never another number."""

import io
import json
from typing import Any

import numpy as np
import pytest

from exporters.base import TensorSpec
from model_service.errors import InvalidField
from model_service.serving import tensors


def parsed(values: Any, dtype: str) -> Any:
    spec = TensorSpec("x", dtype, ("n",))
    return tensors.parse(json.dumps({"inputs": values}).encode(), "application/json", [spec])["x"]


def parsed_npy(array: Any, dtype: str) -> Any:
    file = io.BytesIO()
    np.save(file, array)
    return tensors.parse(file.getvalue(), tensors.NPY, [TensorSpec("x", dtype, ("n",))])["x"]


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
        ("bool", [7]),
        ("bool", [-1]),
        ("float32", [1e300]),
        ("float32", [0.0, -1e300]),
        ("float16", [70_000]),
        ("float16", [70_000.0]),
    ],
)
def test_a_number_that_does_not_fit_is_refused(dtype: str, values: list[Any]) -> None:
    with pytest.raises(InvalidField) as refusal:
        parsed(values, dtype)
    assert [each["field"] for each in refusal.value.details["fields"]] == ["inputs.x"]
    assert dtype in refusal.value.message


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("uint8", [0, 255]),
        ("int8", [-128, 127]),
        ("int32", [-(2**31), 2**31 - 1]),
        ("int64", [-(2**63), 2**63 - 1]),
        ("bool", [0, 1]),
        ("bool", [True, False]),
        ("float32", [1, -2.5, 3e38]),
        ("float16", [65_504]),
    ],
)
def test_a_number_that_fits_is_taken(dtype: str, values: list[Any]) -> None:
    tensor = parsed(values, dtype)
    assert tensor.dtype == dtype
    assert np.array_equal(tensor, np.asarray(values, dtype=dtype))


def test_a_fraction_is_rounded_to_the_tensors_precision() -> None:
    assert parsed([0.1], "float32")[0] == np.float32(0.1)


@pytest.mark.parametrize("sent", ["float32", "float64"])
def test_what_is_not_finite_may_be_sent(sent: str) -> None:
    array = np.asarray([np.inf, -np.inf, np.nan, 1.0], dtype=sent)
    assert np.array_equal(parsed_npy(array, "float32"), array, equal_nan=True)


def test_an_array_of_another_type_must_fit_too() -> None:
    with pytest.raises(InvalidField):
        parsed_npy(np.asarray([300], dtype=np.uint16), "uint8")
    with pytest.raises(InvalidField):
        parsed_npy(np.asarray([2**63], dtype=np.uint64), "int64")
    with pytest.raises(InvalidField):
        parsed_npy(np.asarray([1e300]), "float32")
