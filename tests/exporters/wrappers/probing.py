"""What a probe of a generated wrapper prints, against the numpy reference."""

from dataclasses import astuple

import numpy as np

from .declarations import Declaration


def numbers_of(declaration: Declaration) -> list[str]:
    """The geometry and the shape of the raw output, as a probe takes them."""
    _, geometry, _ = declaration.reference()
    return [str(number) for number in (*astuple(geometry), *declaration.raw().shape)]


def check_prepared(declaration: Declaration, tensor: bytes, geometry: str) -> None:
    """``geometry``: its eight numbers and the shape of the tensor. Not one bit may differ."""
    expected, wanted, _ = declaration.reference()
    numbers = list(map(int, geometry.split()))
    assert tuple(numbers[:8]) == astuple(wanted)
    actual = np.frombuffer(tensor, expected.dtype).reshape(numbers[8:])
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)


def check_read(declaration: Declaration, text: str) -> None:
    """``text``: of each prediction its row, class, class id, confidence, and box."""
    _, _, expected = declaration.reference()
    wanted = [(row, one) for row, found in enumerate(expected) for one in found]
    assert len(wanted) > 2
    for row, one in wanted:
        start = f"{row} {one['class']} {one['class_id']} "  # a class may be several lines
        assert text.startswith(start)
        line, _, text = text.removeprefix(start).partition("\n")
        np.testing.assert_allclose(
            list(map(float, line.split())), [one["confidence"], *one.get("bbox", [])], rtol=1e-5, atol=1e-5
        )
    assert text == ""
